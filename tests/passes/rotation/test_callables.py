"""`rotate`: three functions of the user's trees."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeTypeError, RotateError, TreeError
from funpipe._typing import MeshShape
from funpipe.graphs import eliminate_dead, interpret
from funpipe.passes import donate, rotate, rotated_of, updates
from tests.passes.rotation.folds import batches, loss_fn, mlp, same, start

ONE = MeshShape(1, 1)
OPTIMIZER = fp.optim.adamw(1e-2)
LATE = updates(["params.w0", "params.b1"])


@pytest.fixture(scope="module")
def step():
    return mlp(OPTIMIZER, ONE)


def plain(step, state, rows):
    """The step repeated without rotation, and its losses."""
    losses = []
    for batch in rows:
        state, aux = step.results(interpret(step.graph, step.inputs(state, batch)))
        losses.append(aux["loss"])
    return state, losses


def run(rotated, state, rows, flush_after=()):
    state, losses = rotated.init(state), []
    for number, batch in enumerate(rows):
        state, aux = rotated.step(state, batch)
        losses.append(aux["loss"])
        if number in flush_after:
            state = rotated.flush(state)
    return rotated.flush(state).state, losses


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_the_law_over_trees(step, length):
    rows = batches(length)
    assert same(list(run(rotate(step, LATE), start(OPTIMIZER), rows)), list(plain(step, start(OPTIMIZER), rows)))


def test_a_flush_on_the_way(step):
    rows = batches(4)
    wanted = plain(step, start(OPTIMIZER), rows)
    assert same(list(run(rotate(step, LATE), start(OPTIMIZER), rows, (0, 2))), list(wanted))


def test_nothing_is_open_at_first_and_after_a_flush(step):
    rotated = rotate(step, LATE)
    state = rotated.init(start(OPTIMIZER))
    assert rotated.flush(state) is state
    pending, _ = rotated.step(state, batches(1)[0])
    assert isinstance(pending, fp.Pending) and isinstance(rotated.flush(pending), fp.Clean)


def test_a_clean_state_is_not_consumed(step):
    rotated = rotate(step, LATE)
    state = rotated.init(start(OPTIMIZER))
    one, other = (rotated.flush(rotated.step(state, batches(1)[0])[0]).state for _ in range(2))
    assert same(one, other)


def test_a_pending_state_is_used_once(step):
    rotated = rotate(step, LATE)
    pending, _ = rotated.step(rotated.init(start(OPTIMIZER)), batches(1)[0])
    rotated.step(pending, batches(1)[0])
    with pytest.raises(RotateError, match=r"went into a step or a flush before.*use the state that came out"):
        rotated.flush(pending)


def test_a_wrong_batch_leaves_the_state_usable(step):
    rotated = rotate(step, LATE)
    pending, _ = rotated.step(rotated.init(start(OPTIMIZER)), batches(1)[0])
    with pytest.raises(TreeError, match=r"batch: .*'y'"):
        rotated.step(pending, {"x": torch.ones(3, 4)})
    rotated.flush(pending)


def test_what_is_no_state(step):
    rotated = rotate(step, LATE)
    with pytest.raises(FunpipeTypeError, match=r"was given a dict: begin with state = rotated\.init\(state\)\."):
        rotated.step(start(OPTIMIZER), batches(1)[0])
    with pytest.raises(FunpipeTypeError, match=r"was given a dict"):
        rotated.flush(start(OPTIMIZER))
    with pytest.raises(TreeError, match=r"state: .*'params\.b0'"):
        rotated.init({"params": {}})


def test_a_batch_of_one_leaf_and_other_trees():
    """The state is one tensor, the other results are a tuple."""

    def train(w, x):
        gradient = torch.func.grad(lambda w: (w * x).square().sum())(w)
        return w - 0.1 * gradient, (gradient, [x.sum()])

    step = fp.trace_step(train, torch.ones(2), torch.ones(2))
    rotated = rotate(step, lambda node: node.name == "sub")
    state, aux = rotated.step(rotated.init(torch.ones(2)), torch.ones(2))
    assert torch.equal(aux[0], torch.full((2,), 2.0)) and torch.equal(aux[1][0], torch.tensor(2.0))
    assert torch.equal(rotated.flush(state).state, torch.full((2,), 0.8))


def test_passes_over_the_three_graphs(step):
    mapped = rotate(step, LATE).map(donate(lambda name: True))
    assert any("update_" in str(node.target) for node in mapped.graphs.main.nodes)
    rows = batches(3)
    assert same(run(mapped, start(OPTIMIZER), rows)[0], plain(step, start(OPTIMIZER), rows)[0])


def test_a_pass_that_changes_the_edges_is_refused(step):
    with pytest.raises(RotateError, match=r"changed the outputs from .*hand each other values by these names"):
        rotate(step, LATE).map(lambda graph: graph.replace(outputs={}))
    assert rotate(step, LATE).map(eliminate_dead).trees is step


def test_another_runner(step):
    """Each graph becomes a function once."""
    seen = []

    def runner(graph):
        seen.append(graph)
        return lambda given: interpret(graph, given)

    rotated = rotate(step, LATE)
    again = rotated_of(rotated.graphs, rotated.trees, runner)
    assert seen == [again.graphs.first, again.graphs.main, again.graphs.flush]
    rows = batches(2)
    assert same(run(again, start(OPTIMIZER), rows)[0], plain(step, start(OPTIMIZER), rows)[0])


def test_the_text_has_all_three(step):
    text = rotate(step, LATE).graphs.as_text()
    assert [line for line in text.splitlines() if line.endswith(":")] == ["first:", "main:", "flush:"]
    assert loss_fn.__code__.co_filename in text


def test_only_a_traced_step_is_rotated(step):
    with pytest.raises(FunpipeTypeError, match=r"was given a Graph: use passes\.rotated\(graph, defer\)\.$"):
        rotate(step.graph, LATE)
    with pytest.raises(FunpipeTypeError, match="was given a Rotated: use what fp.trace_step or as_graph"):
        rotate(rotate(step, LATE), LATE)


def test_what_is_printed_is_short(step):
    rotated = rotate(step, LATE)
    assert len(repr(rotated)) < 60 and len(repr(rotated.graphs)) < 200
