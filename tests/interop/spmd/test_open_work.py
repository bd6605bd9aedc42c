"""Work of a step that waits for the next one: nobody sees the state without it."""

import copy
import pickle

import pytest
import torch
from torch import nn

from funpipe.interop.spmd.api import compile
from funpipe.interop.spmd.graph_optimization import find_all_descendants
from funpipe.interop.spmd.graph_utils import find_node
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from tests.interop.spmd.models import Layers, adam, batches, same, train_step, twins
from tests.interop.spmd.moving import updates_moved

FUSED = adam(fused=True)


@pytest.fixture(scope="module")
def step():
    """One step for all tests: each has a model of its own."""
    return compile(gm_transformation=updates_moved())(train_step)


@pytest.fixture
def trained(step):
    """Twins, of which one has open work of its second step."""
    (mine, optimizer), (its, other) = twins(FUSED)
    held = list(mine.parameters())
    for x in batches(2):
        step(mine, optimizer, x)
        train_step(its, other, x)
    assert step.__dict__["_compiled_obj"].pending
    assert not any(torch.equal(p, q) for p, q in zip(held, its.parameters(), strict=True))
    return (mine, optimizer), (its, other)


READS = {
    "state_dict": lambda m, o: m.state_dict(),
    "parameters": lambda m, o: list(m.parameters()),
    "named_parameters": lambda m, o: dict(m.named_parameters()),
    "an attribute": lambda m, o: m.mod[0].weight,
    "a call": lambda m, o: m(torch.ones(1, 8)),
    "deepcopy": lambda m, o: copy.deepcopy(m),
    "the dictionary itself": lambda m, o: dict(m.mod[0]._parameters),
    "optimizer.state_dict": lambda m, o: o.state_dict(),
    "optimizer.state": lambda m, o: list(o.state.values()),
    "copies of it": lambda m, o: copy.copy(o.state),
    "optimizer.state, pickled": lambda m, o: pickle.dumps(o.state),
}


@pytest.mark.parametrize("name", READS)
def test_whoever_reads_the_state_sees_the_whole_step(trained, name):
    (mine, optimizer), (its, other) = trained
    held = [p for module in mine.mod for p in dict.values(module._parameters)]  # read without anybody noticing
    assert not any(torch.equal(p, q) for p, q in zip(held, its.parameters(), strict=True))
    READS[name](mine, optimizer)
    assert all(torch.equal(p, q) for p, q in zip(held, its.parameters(), strict=True))
    assert repr(optimizer.state_dict()["state"]) == repr(other.state_dict()["state"])


def test_nothing_is_watched_afterwards(step, trained):
    (mine, optimizer), _ = trained
    assert type(mine.mod[0].__dict__["_parameters"]) is not dict
    step.flush()
    assert {type(module.__dict__["_parameters"]) for module in mine.modules()} == {dict}
    assert type(optimizer.state).__module__ == "collections"
    assert not optimizer._optimizer_step_pre_hooks


def test_what_does_not_read_the_state_leaves_the_work_open(step, trained):
    (mine, optimizer), _ = trained
    mine.train()
    optimizer.zero_grad()
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert step.__dict__["_compiled_obj"].pending


def test_training_goes_on_after_a_look(step, trained):
    (mine, optimizer), (its, other) = trained
    mine.state_dict()
    for x in batches(3):
        step(mine, optimizer, x)
        train_step(its, other, x)
    step.flush()
    assert same(mine, its)


def test_an_eager_step_comes_after_the_open_work(trained):
    (mine, optimizer), (its, other) = trained
    for model, own in ((mine, optimizer), (its, other)):
        train_step(model, own, torch.ones(4, 8))
    assert same(mine, its)


def test_state_that_is_loaded_replaces_what_open_work_makes(step, trained):
    (mine, optimizer), (its, other) = trained
    saved = copy.deepcopy([its.state_dict(), other.state_dict()])
    step(mine, optimizer, torch.ones(4, 8))
    mine.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    step(mine, optimizer, torch.ones(4, 8), last_train_step=True)
    train_step(its, other, torch.ones(4, 8))
    assert same(mine, its)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_last_step_leaves_nothing_open_and_training_may_begin_again(step, count):
    (mine, optimizer), (its, other) = twins(FUSED)
    for _ in range(2):
        for i, x in enumerate(batches(count)):
            step(mine, optimizer, x, **({"last_train_step": True} if i == count - 1 else {}))
            train_step(its, other, x)
        assert same(mine, its)


def test_flush_without_open_work_does_nothing(step):
    step.flush()
    step.flush()


def test_another_batch_shape_completes_the_work_first(step, trained):
    (mine, optimizer), (its, other) = trained
    for rows in (7, 4):
        step(mine, optimizer, torch.ones(rows, 8))
        train_step(its, other, torch.ones(rows, 8))
    step.flush()
    assert same(mine, its)


def test_another_model_completes_the_work_first(step, trained):
    (mine, optimizer), (its, _) = trained
    second = Layers()
    step(second, FUSED(second.parameters()), torch.ones(4, 8))
    assert type(mine.mod[0].__dict__["_parameters"]) is dict
    assert same(mine, its)


def test_the_learning_rate_of_a_step_is_that_of_its_own_call(step):
    (mine, optimizer), (its, other) = twins(FUSED)
    for i, x in enumerate(batches(4)):
        for own in (optimizer, other):
            own.param_groups[0]["lr"] = 0.1 / (i + 1)
        step(mine, optimizer, x)
        train_step(its, other, x)
    step.flush()
    assert same(mine, its)


def test_another_compiled_function_completes_the_work(trained):
    (mine, optimizer), (its, other) = trained
    compile()(train_step)(mine, optimizer, torch.ones(4, 8))
    train_step(its, other, torch.ones(4, 8))
    assert same(mine, its)


def test_a_move_past_a_reader_names_it_where_it_is_made():
    (model, optimizer), _ = twins(FUSED)
    with pytest.raises(ValueError, match="addmm"):
        compile(gm_transformation=updates_moved("relu"))(train_step)(model, optimizer, torch.ones(4, 8))


def test_a_move_past_a_reader_that_never_takes_effect_is_as_in_the_original():
    (mine, optimizer), (its, other) = twins(FUSED)
    unmoved = compile(gm_transformation=updates_moved("relu", final=False))(train_step)
    for x in batches(2):
        unmoved(mine, optimizer, x)
        train_step(its, other, x)
    assert same(mine, its)


def test_buffers_are_written_in_their_own_step():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    (mine, optimizer), (its, other) = twins(FUSED, model)
    normed = compile(gm_transformation=updates_moved())(train_step)
    for x in batches(3):
        normed(mine, optimizer, x)
        train_step(its, other, x)
    normed.flush()
    assert same(mine, its)


def test_gradients_that_a_step_leaves_cannot_come_later():
    def step(model, optimizer, batch):
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()

    (model, optimizer), _ = twins(FUSED)
    text = "The step leaves its gradients behind.*call optimizer.zero_grad\\(\\) at the end of the step"
    with pytest.raises(ValueError, match=text):
        compile(gm_transformation=updates_moved())(step)(model, optimizer, torch.ones(4, 8))


def test_gradients_from_before_are_not_added_to_where_work_is_moved():
    def step(model, optimizer, batch):
        model(batch).sum().backward()
        optimizer.step()

    def only_updates(gm):
        moved = IterGraphModule(gm)
        starts = find_node(moved.graph, lambda n: n.name == "_foreach_add")[:1]
        stop = find_node(moved.graph, lambda n: n.name == "addmm")[0]
        moved.graph.move_to_next_iter_before(find_all_descendants(moved, starts), stop)
        moved.finalize_setup()
        return moved

    (mine, optimizer), (its, other) = twins(FUSED)
    compiled = compile(gm_transformation=only_updates)(step)
    compiled(mine, optimizer, torch.ones(4, 8))
    step(its, other, torch.ones(4, 8))
    assert torch.equal(next(its.parameters()).grad, next(iter(dict.values(mine.mod[0]._parameters))).grad)
    with pytest.raises(ValueError, match="the step adds to gradients from before, which anybody may change"):
        compiled(mine, optimizer, torch.ones(4, 8))
    assert same(mine, its)
