"""Local instructions traced as one graph mean what the interpreter makes of them, one after the other."""

import pytest
import torch

from funpipe import optim
from funpipe.backends.blocks import SCALARS, block, scalars_block
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.programs.execute import Environment, execute
from funpipe.programs.instructions import Accumulate, Constant, Flatten, Free, Reduce, Scale, Squares, Store, Update
from funpipe.schedules import GPipe
from tests.programs.models import chain, programs_of, skipping, stages_of, tied, traced_of, weighted

OPTIMIZERS = {
    "sgd": optim.sgd(0.1, momentum=0.9),
    "adamw": optim.adamw(1e-2),
    "clipped": optim.chain(optim.clip_by_global_norm(0.1), optim.adamw(optim.warmup_cosine(1e-2, 2, 10))),
}
LOCAL = (Accumulate, Constant, Flatten, Free, Reduce, Scale, Squares, Store, Update)


def values_of(programs, names):
    g = torch.Generator().manual_seed(3)
    return {n: _value(programs.types[n], g) for n in names}


def _value(kind, g):
    if kind.dtype == torch.int64:
        return torch.full(kind.shape, 4)
    return torch.rand(kind.shape, generator=g, dtype=kind.dtype)


def both(programs, instructions, optimizer, wanted):
    """What a block gives, what executing the instructions gives, and the inputs that the block has overwritten."""
    made = {w for i in instructions for w in i.writes}
    reads = dict.fromkeys(r for i in instructions for r in i.reads if r not in made)
    reads |= dict.fromkeys(f"bucket.{i.bucket}" for i in instructions if hasattr(i, "bucket"))
    given = values_of(programs, reads)
    found = block(programs, list(reads), instructions, optimizer, frozenset(wanted))
    scalars = optimizer.scalars(given["step"]) if optimizer and "step" in given else {}
    given |= {f"{SCALARS}{n}": v for n, v in scalars.items()}
    env = Environment(programs, dict(given), optimizer)
    for instruction in instructions:
        if not isinstance(instruction, Free):
            execute(instruction, env)
    before = {n: given[n].clone() for n in found.inputs}
    outputs = found.module(*(given[n] for n in found.inputs))
    written = {n: given[n] for n in before if not torch.equal(given[n], before[n])}
    return dict(zip(found.outputs, outputs, strict=True)), env.values, written


def same(found, expected):
    return all(torch.equal(found[n], expected[n]) for n in found)


def local(program):
    """The local instructions of a program's end that do not touch what a message brings."""
    return [i for i in program.instructions if isinstance(i, LOCAL) and not isinstance(i, Accumulate | Store)]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("loss_fn", [chain, weighted, skipping], ids=lambda f: f.__name__)
def test_the_end_of_a_step_as_one_graph_gives_the_bits_of_executing_it(name, loss_fn):
    optimizer = OPTIMIZERS[name]
    traced = traced_of(loss_fn)
    programs = optimize(lower(traced, stages_of(traced, 1), GPipe().table(1, 3), optimizer=optimizer))
    (program,) = programs.programs
    found, expected, state = both(programs, local(program), optimizer, program.outputs.values())
    assert set(found) == set(program.outputs.values())
    assert set(state) == {n for n in program.inputs if n.startswith(("bucket.", "slot."))}
    assert same(found | state, expected)


def test_an_accumulation_that_stands_alone():
    programs = programs_of(num_stages=2)
    add = next(i for i in programs.programs[0].instructions if isinstance(i, Accumulate))
    found, expected, written = both(programs, [add], None, add.accumulators)
    assert found == {} and set(written) == set(add.accumulators)
    assert same(written, expected)


@pytest.mark.parametrize("optimizer", [None, OPTIMIZERS["adamw"]], ids=["gradients", "adamw"])
def test_a_gradient_is_scaled_where_it_lies_if_it_is_read_later_and_not_written_otherwise(optimizer):
    """A second flat gradient would be as large as the parameters."""
    programs = programs_of(num_stages=1, optimizer=optimizer)
    scale = next(i for i in programs.programs[0].instructions if isinstance(i, Scale))
    found, expected, written = both(programs, [scale], optimizer, (scale.value,))
    assert found == {} and set(written) == {scale.value} and same(written, expected)
    assert both(programs, [scale], optimizer, ())[2] == {}


def test_a_copy_of_a_tied_leaf_is_overwritten():
    programs = programs_of(tied, 3, optimizer=optim.sgd(0.1))
    store = next(i for i in programs.programs[2].instructions if isinstance(i, Store))
    found, expected, written = both(programs, [store], None, ())
    assert found == {} and list(written) == ["leaf.words"]
    assert torch.equal(written["leaf.words"], expected["tied.words"])


def test_what_nobody_wants_is_not_returned():
    programs = programs_of(num_stages=1)
    reduce = next(i for i in programs.programs[0].instructions if isinstance(i, Reduce))
    assert both(programs, [reduce], None, ())[0] == {}


def test_a_block_writes_to_state_and_nothing_else():
    """Once to each, at its end: a compiler makes the copies part of the kernel that computes what is copied."""
    programs = programs_of(num_stages=1, optimizer=OPTIMIZERS["adamw"])
    update = next(i for i in programs.programs[0].instructions if isinstance(i, Update))
    made = block(programs, list(update.reads), [update], OPTIMIZERS["adamw"], frozenset())
    writes = [n for n in made.module.graph.nodes if n.op == "call_function" and n.target._schema.is_mutable]
    written = [made.inputs[made.module.graph.find_nodes(op="placeholder").index(n.args[0])] for n in writes]
    assert sorted(written) == ["bucket.s0_float32", "slot.m.s0_float32", "slot.v.s0_float32"]
    assert [n.target for n in writes] == [torch.ops.aten.copy_.default] * 3


def test_the_scalars_of_a_step_are_those_of_the_optimizer():
    optimizer = OPTIMIZERS["clipped"]
    made = scalars_block(optimizer)
    found = dict(zip(made.outputs, made.module(torch.tensor(5)), strict=True))
    expected = {f"{SCALARS}{n}": v for n, v in optimizer.scalars(torch.tensor(5)).items()}
    assert made.inputs == ("step",) and found.keys() == expected.keys()
    assert same(found, expected)


def test_the_default_device_of_the_moment_is_not_traced():
    optimizer = optim.sgd(lambda step: torch.full((), 0.1, device=step.device))
    with torch.device("meta"):
        code = scalars_block(optimizer).module.code
    assert "device(type='cpu')" in code and "meta" not in code


def test_a_slot_may_keep_what_the_bucket_was():
    def update(grads, state, params, context):
        return {n: params[n] - grads[n] for n in params}, {"before": dict(params)}

    keeping = optim.Optimizer(
        init=lambda params: {"before": {n: torch.zeros_like(p) for n, p in params.items()}},
        update=update,
        scalars=lambda step: {},
        name="keeping",
    )
    programs = optimize(programs_of(chain, 1, 2, optimizer=keeping))
    instructions = [i for i in local(programs.programs[0]) if isinstance(i, Flatten | Scale | Update)]
    reads = [r for i in instructions for r in i.reads if r != "grad.s0_float32"]
    made = block(programs, list(dict.fromkeys(reads)), instructions, keeping, frozenset())
    given = values_of(programs, made.inputs)
    before = given["bucket.s0_float32"].clone()
    made.module(*given.values())
    assert torch.equal(given["slot.before.s0_float32"], before)
    assert not torch.equal(given["bucket.s0_float32"], before)
