"""The law: whatever may be deferred, in whatever step, a flushed fold of the rotated step is the fold of the step."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import funpipe as fp
from funpipe._errors import RotateError
from funpipe._typing import MeshShape
from funpipe.graphs import Ref, closure
from funpipe.graphs.communication import is_start
from funpipe.passes.rotation import closure_of, collectives, rotated, updates, waits
from tests.passes.rotation.folds import LAYERS, batches, folded, folded_rotated, inputs_of, mlp, same, start
from tests.passes.rotation.random_steps import random_step, random_values

TWO = MeshShape(1, 2)
OPTIMIZERS = [
    fp.optim.sgd(0.1, momentum=0.9),
    fp.optim.adamw(1e-2),
    fp.optim.chain(fp.optim.clip_by_global_norm(0.1), fp.optim.adam(1e-2)),
]


def laws_hold(step, optimizer, defer, length, flush_after=(), before=None):
    """Whether both folds give the same bits on two ranks with different batches."""
    graphs = rotated(step.graph, defer, before)
    states, rows = inputs_of(step, start(optimizer), batches(2 * max(length, 1)))
    wanted = folded([step.graph] * 2, states, rows[:length], TWO)
    return same(wanted, folded_rotated([graphs] * 2, states, rows[:length], TWO, flush_after))


@pytest.fixture(scope="module", params=OPTIMIZERS, ids=str)
def trained(request):
    return mlp(request.param, TWO), request.param


@pytest.mark.parametrize("number", range(2 * LAYERS))
@pytest.mark.parametrize("select", [waits, collectives])
def test_every_bucket(trained, select, number):
    """Without a batch, with one, with two, with five."""
    step, optimizer = trained
    assert all(laws_hold(step, optimizer, select(number), length) for length in (0, 1, 2, 5))


@pytest.mark.parametrize("flush_after", [(0,), (1,), (0, 1, 2, 3), (4,), (1, 3)])
def test_a_flush_at_any_point_and_going_on_afterwards(trained, flush_after):
    step, optimizer = trained
    assert laws_hold(step, optimizer, waits(0, 2) | waits(4), 5, flush_after)


def test_all_buckets_at_once(trained):
    step, optimizer = trained
    assert laws_hold(step, optimizer, collectives(*range(2 * LAYERS)), 5)


def test_updates_of_named_leaves(trained):
    step, optimizer = trained
    assert laws_hold(step, optimizer, updates(["params.w0", "params.b0"]), 5)
    assert set(rotated(step.graph, updates(["params.w0"])).late) >= {"params.w0", "params.b0"}


def test_the_head_of_a_step_runs_in_its_own_step():
    step = mlp(OPTIMIZERS[0], TWO)
    graphs = rotated(step.graph, waits(0, 1))
    deferred = {node.name for node in graphs.flush.nodes}
    assert {node.name for node in graphs.main.nodes} == {node.name for node in step.graph.nodes}
    assert {node.name for node in graphs.first.nodes} == {node.name for node in step.graph.nodes} - deferred


def test_the_tail_stands_just_before_its_first_reader():
    step = mlp(OPTIMIZERS[0], TWO)
    names = [node.name for node in rotated(step.graph, waits(0, 1)).main.nodes]
    at = names.index("addmm_2")  # the last layer is the first whose gradient is reduced
    assert names[:4] == ["addmm", "tanh", "addmm_1", "tanh_1"]
    assert set(names[4:at]) == {n for n in names if n in names[4:at] and n not in names[at:]}
    assert "wait_tensor" in names[4:at] and "update" in names[4:at]


def test_what_is_carried_is_named_once():
    """Two layers' updates read one count of steps."""
    graphs = rotated(mlp(OPTIMIZERS[0], TWO).graph, waits(0, 1, 2, 3))
    assert "carry.state.step" in graphs.carry
    gradients = [name for name in graphs.carry if name.startswith("carry.all_reduce")]
    leaves = [name for name in graphs.carry if name.startswith("carry.state.")]
    assert (len(gradients), len(leaves), len(graphs.carry)) == (4, 9, 13)


def test_the_learning_rate_and_the_count_are_those_of_the_old_step():
    """The learning rate is a leaf that changes between the steps."""
    optimizer = fp.optim.adamw(1e-2)
    step = mlp(optimizer, TWO, lr=0.5)
    graphs = rotated(step.graph, waits(0, 1))
    states, rows = inputs_of(step, start(optimizer, lr=0.5), batches(6))

    def halved(state):
        return state | {"state.lr": state["state.lr"] / 2}

    wanted = current = states
    for row in rows:
        wanted = [halved(s) for s in folded([step.graph] * 2, wanted, [row], TWO)[0]]
    ranks, pending = fp.graphs.Ranks(TWO), False
    for row in rows:
        part = graphs.main if pending else graphs.first
        outputs = ranks.run(part, [s | b for s, b in zip(current, row, strict=True)])
        current = [halved({n: v for n, v in o.items() if not n.startswith("aux.")}) for o in outputs]
        pending = True
    assert same(ranks.run(graphs.flush, current), wanted)


def test_before_places_the_whole_tail():
    step = mlp(OPTIMIZERS[0], TWO)
    names = [node.name for node in rotated(step.graph, waits(0, 1), before="tanh").main.nodes]
    assert names[0] == "addmm" and names[1] != "tanh"
    assert laws_hold(step, OPTIMIZERS[0], waits(0, 1), 3, before="tanh")
    assert laws_hold(step, OPTIMIZERS[0], waits(0, 1), 3, before="addmm_2")


def test_a_batch_whose_memory_is_written_again():
    """The weight gradient is deferred, too, and reads rows of the batch."""
    optimizer = OPTIMIZERS[0]
    step = mlp(optimizer, TWO)
    roots = [n.name for n in step.graph.nodes if "batch.x" in n.reads and n.name != "addmm"]
    graphs = rotated(step.graph, closure_of(lambda node: any(name in roots for name in node.reads)))
    states, rows = inputs_of(step, start(optimizer), batches(4))
    wanted = folded([step.graph] * 2, states, rows, TWO)[0]
    memory = [{n: torch.empty_like(v) for n, v in row.items()} for row in rows[0]]
    ranks = fp.graphs.Ranks(TWO)
    current = states
    for i, row in enumerate(rows):
        for kept, new in zip(memory, row, strict=True):
            for name, value in new.items():
                kept[name].copy_(value)
        outputs = ranks.run(graphs.main if i else graphs.first, [s | b for s, b in zip(current, memory, strict=True)])
        current = [{n: v for n, v in o.items() if not n.startswith("aux.")} for o in outputs]
    for kept in memory:
        for value in kept.values():
            value.fill_(7.0)
    assert same(ranks.run(graphs.flush, current), wanted)


def closed(graph, names):
    """Whether nothing but new leaves depends on some nodes."""
    read = {name for node in graph.nodes if node.name not in names for name in node.reads}
    results = {value.name for name, value in graph.outputs.items() if name.startswith("aux.")}
    return not names & (read | results)


def random_laws_hold(graph, names, length, flush_after):
    states = [random_values([n for n in graph.inputs if n.startswith("state.")], 7)] * 2
    rows = [[random_values(["batch.x", "batch.y"], 10 * i + rank) for rank in range(2)] for i in range(length)]
    graphs = rotated(graph, names)
    wanted = folded([graph] * 2, states, rows, TWO)
    return same(wanted, folded_rotated([graphs] * 2, states, rows, TWO, flush_after))


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0, 1, 2, 5]), st.sets(st.integers(0, 4)))
def test_any_closed_part_of_any_step(seed, roots, length, flush_after):
    graph, draw = random_step(seed), random.Random(seed)
    picked = draw.sample([node.name for node in graph.nodes], roots)
    names = {node.name for node in closure(graph, picked)}
    if closed(graph, names):
        assert random_laws_hold(graph, names, length, sorted(flush_after))
    else:
        with pytest.raises(RotateError, match="'aux.y'"):
            rotated(graph, names)


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_any_part_is_deferred_or_refused(seed, count):
    """What stays and reads what is deferred is refused, and nothing else is."""
    graph, draw = random_step(seed), random.Random(seed)
    names = set(draw.sample([node.name for node in graph.nodes], count))
    if closed(graph, names):
        assert random_laws_hold(graph, names, 2, ())
    else:
        with pytest.raises(RotateError, match=r"(reads|waits for|is wanted|is deferred)"):
            rotated(graph, names)


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_collectives_keep_their_order_in_head_and_tail(seed):
    graph = random_step(seed, nodes=20)
    starts = [node.name for node in graph.nodes if is_start(node)]
    for name in starts:
        names = {node.name for node in closure(graph, [name])}
        if closed(graph, names):
            graphs = rotated(graph, names)
            order = [node.name for node in graphs.main.nodes if is_start(node)]
            for part in (names, set(starts) - names):
                assert [n for n in order if n in part] == [n for n in starts if n in part]


def test_a_leaf_that_another_one_becomes():
    """The new leaf 0 is the old leaf 1, whose own update is deferred."""
    graph = random_step(3)
    maker = graph.nodes[-1].name
    outputs = {"state.0": Ref("state.1"), "state.1": Ref(maker), "state.2": Ref("state.2"), "state.3": Ref("state.0")}
    graph = graph.replace(outputs=outputs | {"aux.y": Ref("batch.x")})
    assert random_laws_hold(graph, {maker}, 5, [2])
