"""The bound that the regions' times give."""

import time
from functools import partial

import pytest

import funpipe as fp
from tests.benchmarks import makespan
from tests.benchmarks.cases import Perceptron
from tests.benchmarks.ours import Funpipe, Options


def test_regions_go_forward_then_back():
    case = Perceptron(width=4, blocks=2, rows=1, microbatches=2)
    step = Funpipe(case, Options(backend="interpret", ranks=2)).step
    assert [region.name for region in makespan.in_order(step.lowered.stages)] == ["F0", "F1", "B1", "B0"]


def test_the_bound_is_the_schedules_with_these_times():
    table = fp.schedules.OneFOneB().table(num_ranks=2, num_microbatches=4)
    sleep = {"F0": 0.001, "F1": 0.001, "B0": 0.002, "B1": 0.002}
    regions = {name: partial(time.sleep, t) for name, t in sleep.items()}
    assert makespan.makespan(table, regions) == pytest.approx(0.015, rel=0.3)  # (4 + 1) * 3 ms
