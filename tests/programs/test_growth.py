"""What planning costs, counted in calls of functions: nothing depends on the clock."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch

from funpipe.optim import adamw
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.programs.layout import layout
from funpipe.programs.verify import check
from funpipe.schedules import OneFOneB
from funpipe.stages import partition
from funpipe.tracing import trace


def calls_of(function: Callable[[], object]) -> int:
    """How many functions, comprehensions and steps of generators of funpipe a function runs."""
    count, before = 0, sys.getprofile()

    def counted(frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_globals.get("__name__", "").startswith("funpipe.")

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def deep(values: int):
    """A model of two parameters whose forward saves a number of values for its backward, and its one stage."""

    def loss_fn(params, x):
        h = x @ params["w"]
        for _ in range(values):
            h = h.sin()
        return (h @ params["v"]).sum()

    weights = {"w": torch.ones(3, 3), "v": torch.ones(3, 2)}
    traced = trace(loss_fn, weights, torch.ones(4, 3))
    return traced, partition(traced, ())


def per_microbatch(plan: Callable[..., object], values: int) -> float:
    """The calls that one more microbatch costs."""
    found = deep(values)
    few, many = (calls_of(plan(*found, count)) for count in (4, 8))
    return (many - few) / 4


def lowering(traced, stages, count):
    return lambda: lower(traced, stages, OneFOneB().table(1, count), optimizer=adamw(1e-3))


def optimizing(traced, stages, count):
    programs = lowering(traced, stages, count)()
    return lambda: optimize(programs)


def checking(traced, stages, count):
    programs = optimize(lowering(traced, stages, count)())
    return lambda: check(programs)


def hashing(traced, stages, count):
    programs = optimize(lowering(traced, stages, count)())
    return programs.digest


@pytest.mark.parametrize("plan", [lowering, optimizing, checking, hashing])
def test_another_microbatch_costs_the_same_for_stages_of_any_size(plan):
    assert per_microbatch(plan, 40) == per_microbatch(plan, 4)


def test_a_leaf_is_found_without_a_search():
    def lookups(leaves):
        params = {f"p{i}": torch.ones(3) for i in range(leaves)}
        traced = trace(lambda p, x: sum((x * leaf).sum() for leaf in p.values()), params, torch.ones(3))
        made = layout(partition(traced, ()), traced.params)
        return calls_of(lambda: [made.home(leaf) for leaf in params])

    assert lookups(40) - lookups(20) == 20
