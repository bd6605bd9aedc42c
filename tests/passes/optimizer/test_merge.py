import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import funpipe as fp
from funpipe.optim import adam, adamw, apply, sgd
from funpipe.passes import fuse_updates, merge_updates, split_updates
from funpipe.passes.optimizer.calls import updates
from tests.passes.optimizer.steps import (
    OPTIMIZERS,
    assert_same_bits,
    calls_of,
    draw,
    initial,
    step_of,
    trained,
    update_step,
)

PARAMS = draw(0)


def text(step):
    """A graph up to the names of its calls, and to where they come from."""
    lines = re.sub(
        r"(%?)\b(update|_fused_\w+?)(_out)?(_\d+)?\b(?=[:, ]|$)", r"\1\2\3", step.graph.as_text(), flags=re.M
    )
    return [line.partition("  #")[0] for line in lines.split("\n")]


@pytest.mark.parametrize("fuse", [False, True], ids=["update", "fused"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@given(keys=st.lists(st.integers(0, 3), min_size=4, max_size=4))
@settings(max_examples=4, deadline=None)
def test_merging_undoes_any_split(name, fuse, keys):
    step = fuse_updates()(step_of(name)) if fuse else step_of(name)
    parted = split_updates(lambda leaf: keys[int(leaf[-1])])(step)
    assert text(merge_updates()(parted)) == text(step)


def test_splitting_one_time_more_changes_nothing():
    parted = merge_updates()(split_updates(2)(split_updates(3)(step_of("adam"))))
    assert text(parted) == text(step_of("adam"))


def two_updates(first, second, chained=False):
    """A step of two updates, of one leaf each."""

    def step(state, batch):
        a, _ = apply(first, {"a": state["a"]}, {"a": batch}, {}, torch.tensor(0))
        b, _ = apply(second, {"b": state["b"]}, {"b": a["a"] if chained else batch}, {}, torch.tensor(0))
        return {**a, **b}, {}

    return fp.trace_step(step, {"a": torch.ones(2), "b": torch.ones(2)}, torch.ones(2))


@pytest.mark.parametrize(
    ("step", "count"),
    [
        (two_updates(sgd(0.1), sgd(0.1)), 1),
        (two_updates(sgd(0.1), sgd(0.2)), 2),
        (two_updates(sgd(0.1), sgd(0.1), chained=True), 2),
    ],
    ids=["alike", "another rate", "one reads the other"],
)
def test_updates_of_equal_settings_alone_are_merged(step, count):
    state = {"a": torch.ones(2), "b": torch.ones(2)}
    merged = merge_updates()(shared_step(step))
    assert len(calls_of(merged)) == count
    assert_same_bits(trained(merged, state, [torch.full((2,), 2.0)]), trained(step, state, [torch.full((2,), 2.0)]))


def shared_step(step):
    """The step with one count of steps for both updates."""
    first, *others = [node for node in step.graph.nodes if "lift_fresh" in node.name]
    names = {node.name: first.name for node in others}
    return step.map(lambda graph: graph.replace(nodes=tuple(node.renamed(names) for node in graph.nodes)))


def test_a_mask_keeps_leaves_apart():
    params = {"a": torch.ones(2), "b": torch.ones(2)}
    step = update_step(adamw(0.1, weight_decay=0.5, decay_mask=lambda name, leaf: name == "a"), params)
    assert calls_of(merge_updates()(step)) == [("params.a",), ("params.b",)]


def test_bits_stay():
    state, batches = initial(OPTIMIZERS["groups"], PARAMS), [draw(1), draw(2)]
    merged = merge_updates()(split_updates(3)(step_of("groups")))
    assert_same_bits(trained(merged, state, batches), trained(step_of("groups"), state, batches))


class Constant:
    """A schedule that prints as any other of its class."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return torch.full((), self.rate, dtype=torch.float64)

    def __repr__(self):
        return "Constant()"


def test_schedules_that_print_alike_are_not_the_same():
    own = {"a": adam(Constant(0.1)), "b": adam(Constant(0.2))}

    def step(state, batch):
        new = {n: fp.optim.apply(own[n], state[n], batch, own[n].init(state[n]), torch.tensor(0))[0] for n in own}
        return new, {}

    leaf = {"w": torch.ones(2)}
    traced = fp.trace_step(step, {"a": leaf, "b": leaf}, leaf)
    assert len(updates(merge_updates()(traced).graph)) == 2
