"""The source of a step, read as text and run as it stands: no compiler is involved."""

import re
from dataclasses import replace

import pytest
import torch

from funpipe import optim
from funpipe._typing import MeshShape
from funpipe.backends.emit import emit
from funpipe.backends.order import check_order
from funpipe.passes import optimize
from funpipe.programs import interpret, lower
from funpipe.programs.instructions import Accumulate, Microbatch, Run
from funpipe.schedules import GPipe, OneFOneB, merge
from funpipe.stages import partition
from funpipe.tracing import trace
from tests.backends.ranks import Ranks, expected, inputs_of
from tests.backends.repeated import REPEATED
from tests.backends.uncompiled import uncompiled
from tests.programs.models import MODELS, chain, normalized, programs_of, skipping, stages_of, tied, traced_of, weighted

ADAMW = optim.adamw(1e-2)
CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), ADAMW)
OPTIMIZERS = {"gradients": None, "sgd": optim.sgd(0.1, momentum=0.9), "clipped adamw": CLIPPED}


def merged(loss_fn, num_stages, num_microbatches, optimizer, schedule=None):
    """Programs of one rank that plays all."""
    table = merge((schedule or OneFOneB()).table(num_stages, num_microbatches))
    traced = traced_of(loss_fn)
    return optimize(lower(traced, stages_of(traced, num_stages), table, optimizer=optimizer))


def assert_bits(programs, loss_fn, optimizer):
    """The source of every rank, run in Python, gives the interpreter's bits."""
    inputs = inputs_of(programs, loss_fn)
    found = Ranks(uncompiled, programs, optimizer).run(inputs)
    for rank, values in enumerate(expected(programs, inputs, optimizer)):
        for name, value in values.items():
            assert torch.equal(found[rank][name], value), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("schedule", [GPipe(), OneFOneB()], ids=str)
def test_one_rank_that_plays_all_does_what_the_interpreter_does(loss_fn, optimizer, schedule):
    assert_bits(merged(loss_fn, 3, 4, optimizer, schedule), loss_fn, optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_three_ranks_do_what_the_interpreter_does(loss_fn, optimizer):
    assert_bits(optimize(programs_of(loss_fn, 3, 4, optimizer=optimizer)), loss_fn, optimizer)


@pytest.mark.parametrize("mesh", [MeshShape(2), MeshShape(2, 2)], ids=["alone", "replicas"])
def test_buffers_go_from_microbatch_to_microbatch(mesh, monkeypatch):
    """They are inputs that are returned, and not overwritten."""
    programs = optimize(programs_of(normalized, 2, 3, optimizer=CLIPPED, mesh=mesh))
    assert any(n.startswith("buffer.") for n in programs.programs[0].outputs)
    assert_bits_of_replicas(programs, normalized, CLIPPED, monkeypatch)


@pytest.mark.parametrize("passes", [optimize, lambda programs: programs], ids=["passes", "no passes"])
def test_one_microbatch_with_and_without_the_passes(passes):
    assert_bits(passes(programs_of(skipping, 2, 1, optimizer=CLIPPED)), skipping, CLIPPED)


def frozen_first(params, batch):
    """The first stage has nothing to train: it has no bucket, no backward and no update."""
    params = params | {"w0": params["w0"].detach(), "b0": params["b0"].detach()}
    return chain(params, batch)


def test_a_stage_without_trained_leaves():
    traced = traced_of(frozen_first)
    programs = optimize(lower(traced, stages_of(traced, 2), OneFOneB().table(2, 3), optimizer=ADAMW))
    assert "bucket" not in " ".join(programs.programs[0].inputs)
    assert_bits(programs, frozen_first, ADAMW)


def test_a_leaf_whose_first_place_another_rank_sends():
    """It is copied into the flat gradient: what arrives has memory of its own."""
    programs = optimize(programs_of(tied, 3, 2, optimizer=ADAMW))
    slot = programs.layout.home("words")[1]
    assert f".as_strided([7, 6], [6, 1], {slot.offset}).copy_(" in emit(programs, 0, ADAMW, 7).source
    assert_bits(programs, tied, ADAMW)


class Twins(Ranks):
    """Two replicas that see the same batch: a sum over them is twice what one has."""

    def __init__(self, *args):
        super().__init__(*args)
        inner = type(self.hub.endpoint(0)).all_reduce

        def doubled(end, tensor, group):
            if group != "dp":
                inner(end, tensor, group)
            if group != "pp":
                tensor.add_(tensor.clone())

        self.all_reduce = doubled


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_replicas_do_what_the_interpreter_does(loss_fn, optimizer, monkeypatch):
    programs = optimize(programs_of(loss_fn, 2, 3, optimizer=optimizer, mesh=MeshShape(2, 2)))
    assert_bits_of_replicas(programs, loss_fn, optimizer, monkeypatch)


def assert_bits_of_replicas(programs, loss_fn, optimizer, monkeypatch):
    inputs = inputs_of(programs, loss_fn)
    ranks = Twins(uncompiled, programs, optimizer)
    monkeypatch.setattr(type(ranks.hub.endpoint(0)), "all_reduce", ranks.all_reduce)
    found = ranks.run(inputs)
    both = interpret(programs, [[dict(v) for v in inputs] for _ in range(programs.mesh.dp)], optimizer)
    for program, mine, values in zip(programs.programs, found, both[0], strict=True):
        assert all(torch.equal(mine[n], values[v]) for n, v in program.outputs.items())
        state = set(program.inputs) - {"step", *program.outputs}  # a buffer's new value is an output of its name
        assert all(torch.equal(mine[n], values[n]) for n in state)


def apart(programs):
    """The first accumulation stands behind what follows it: no backward takes it along."""
    (program,) = programs.programs
    kept = [i for i in program.instructions if type(i).__name__ != "Free"]
    at = next(k for k, i in enumerate(kept) if isinstance(i, Accumulate))
    kept[at], kept[at + 1] = kept[at + 1], kept[at]
    return programs.map(lambda _, p: replace(p, instructions=tuple(kept)))


def test_an_accumulation_that_stands_apart():
    """The backward is called in two forms: one that adds, and one that gives its gradients."""
    programs = apart(merged(chain, 1, 2, ADAMW))
    assert {"B0", "B0_apart"} <= set(emit(programs, 0, ADAMW, 7).graphs)
    assert_bits(programs, chain, ADAMW)


def test_calls_of_a_tiny_program_in_order():
    source = emit(optimize(programs_of(chain, 2, 1, optimizer=ADAMW)), 0, ADAMW, 7).source
    calls = re.findall(r"\b(scalars|F0|B0|block0|copy_|add_|ops\.\w+|torch\.zeros)\(", source)
    assert calls == [
        *("scalars", "torch.zeros", "ops.post_recv", "F0", "ops.send", "ops.wait_recv", "ops.wait_send", "B0"),
        *("block0", "add_"),
    ]


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("mesh", [MeshShape(3), MeshShape(3, 2)], ids=["alone", "replicas"])
def test_communication_stands_in_the_programs_order(loss_fn, mesh):
    programs = optimize(programs_of(loss_fn, 3, 4, optimizer=CLIPPED, mesh=mesh))
    for program in programs.programs:
        check_order(program, emit(programs, program.rank, CLIPPED, 7).source, 7)


def test_every_operator_takes_the_token():
    source = emit(optimize(programs_of(tied, 2, 2, optimizer=CLIPPED)), 0, CLIPPED, 7).source
    assert all("token" in line for line in source.splitlines() if "ops." in line)


def test_the_end_of_a_send_takes_what_was_sent():
    source = emit(optimize(programs_of(tied, 3, 4, optimizer=ADAMW)), 0, ADAMW, 7).source
    sent, ended = (re.findall(rf"ops\.{name}\((.*), token, 7, (\d+)\)", source) for name in ("send", "wait_send"))
    assert sent and sorted(sent) == sorted(ended)


def test_what_is_sent_is_kept_until_the_send_has_ended():
    source = emit(optimize(programs_of(tied, 3, 4, optimizer=ADAMW)), 2, ADAMW, 7).source.splitlines()
    for variable, message in re.findall(r"ops\.wait_send\((v\d+), token, 7, (\d+)\)", "\n".join(source)):
        sent = next(i for i, line in enumerate(source) if f"ops.send({variable}, token, 7, {message})" in line)
        ended = next(i for i, line in enumerate(source) if f"ops.wait_send({variable}, token, 7, {message})" in line)
        assert not any(re.search(rf"del .*\b{variable}\b", line) for line in source[sent:ended])


def test_a_tied_leaf_is_sent_as_a_view_of_its_bucket():
    programs = optimize(programs_of(tied, 2, 2, optimizer=ADAMW))
    slot = programs.layout.home("words")[1]
    source = emit(programs, 0, ADAMW, 7).source
    (view,) = re.findall(rf"(v\d+) = v0\.as_strided\(\[7, 6\], \[6, 1\], {slot.offset}\)", source)
    assert f"ops.send({view}, token, 7, " in source


def test_state_is_overwritten_inside_the_blocks_and_not_returned():
    programs = optimize(programs_of(chain, 2, 2, optimizer=ADAMW))
    made = emit(programs, 1, ADAMW, 7)
    assert made.inputs[:4] == ("bucket.s1_float32", "slot.m.s1_float32", "slot.v.s1_float32", "step")
    assert "copy_(" not in made.source
    assert "v3.add_(1)" in made.source
    assert made.outputs == ("loss",)


def test_without_an_update_only_gradients_are_written():
    """Each bucket's is scaled where it lies, and returned."""
    programs = merged(chain, 2, 2, None)
    made = emit(programs, 0, None, 7)
    assert not re.search(r"copy_|add_|scalars", made.source)
    copies = [n for n in made.graphs["block0"].module.graph.nodes if "copy_" in str(n.target)]
    assert [n.args[0].meta["val"].numel() for n in copies] == [b.size for b in programs.layout.buckets]


def test_a_norm_scales_the_gradient_where_it_lies():
    """The norm is summed over ranks between the scaling and the update: a second flat gradient would live as long."""
    made = emit(optimize(programs_of(chain, 2, 2, optimizer=CLIPPED)), 0, CLIPPED, 7)
    outputs = [made.graphs[n].module.graph.find_nodes(op="output")[0] for n in ("block0", "block1")]
    sizes = [n.meta["val"].numel() for output in outputs for n in output.args[0]]
    assert sizes == [8]  # the squares of eight leaves


def test_gradients_are_added_inside_the_backwards():
    made = emit(merged(chain, 4, 4, ADAMW), 0, ADAMW, 7)
    assert sorted(made.graphs) == ["B0", "B1", "B2", "B3", "F0", "F1", "F2", "F3", "block0", "scalars"]
    adds = [str(n.target) for n in made.graphs["B1"].module.graph.nodes if "add_" in str(n.target)]
    assert adds == ["aten.add_.Tensor"] * 2


def test_accumulators_are_views_of_the_flat_gradient():
    """No gradient is copied to where the update reads it."""
    source = emit(merged(chain, 2, 3, ADAMW), 0, ADAMW, 7).source
    assert source.count("torch.zeros(") == 2  # one for each bucket
    assert "copy_(" not in source


@pytest.mark.parametrize("schedule", [GPipe(), OneFOneB()], ids=str)
def test_graphs_do_not_grow_with_microbatches(schedule):
    few, many = (graphs(emit(merged(chain, 4, count, ADAMW, schedule), 0, ADAMW, 7)) for count in (4, 16))
    assert few == many


def test_schedules_call_the_same_graphs():
    gpipe, one = (graphs(emit(merged(weighted, 4, 8, ADAMW, s), 0, ADAMW, 7)) for s in (GPipe(), OneFOneB()))
    assert gpipe == one


def graphs(emitted):
    """The graphs of regions, as text."""
    return {n: str(g.module.graph) for n, g in emitted.graphs.items() if n[0] in "FB"}


def lines_of_a_microbatch(name, depth):
    """The lines that each further microbatch adds to the source of a step with a stage on one rank."""
    loss_fn, params, batch = REPEATED[name](depth)
    traced = trace(loss_fn, params, batch)

    def lines(count):
        programs = optimize(lower(traced, partition(traced, ()), GPipe().table(1, count), optimizer=ADAMW))
        return emit(programs, 0, ADAMW, 7).source.count("\n")

    return lines(3) - lines(2)


def test_what_the_host_does_for_a_microbatch_grows_neither_with_layers_nor_with_parameters():
    counts = {lines_of_a_microbatch("mlp", depth) for depth in (2, 4, 12)}
    assert counts == {7}  # two slices; arguments, del and call of the forward; the same of the backward, less one


def test_lines_belong_to_the_instructions_that_they_carry_out():
    made = emit(merged(chain, 2, 3, ADAMW), 0, ADAMW, 7)
    for lines in made.body:
        if any(isinstance(i, Run) for i in lines.instructions):
            assert re.search(
                rf"\b{lines.instructions[0].region}(_apart)?\(arguments\)", lines.text[-1] + lines.text[-2]
            )
        if any(isinstance(i, Microbatch) for i in lines.instructions):
            assert all("narrow" in text for text in lines.text)
    assert made.source == "\n    ".join([made.head, *(t for lines in made.body for t in lines.text)]) + "\n"
