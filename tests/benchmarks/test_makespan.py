"""The bound that the regions' times give."""

import pytest

import funpipe as fp
from tests.benchmarks import makespan
from tests.benchmarks.cases import Perceptron
from tests.benchmarks.ours import Funpipe, Options


def test_every_region_is_timed_forward_then_back():
    case = Perceptron(width=4, blocks=2, rows=1, microbatches=2)
    lowered = Funpipe(case, Options(backend="interpret", ranks=2)).step.lowered
    calls = makespan.regions_alone(case, lowered.stages, lowered.origin.traced.consts, "interpret")
    assert [call.name for call in calls] == ["F0", "F1", "B1", "B0"]


def test_the_bound_is_the_schedules_with_these_times():
    table = fp.schedules.OneFOneB().table(num_ranks=2, num_microbatches=4)
    times = {"F0": 1.0, "F1": 1.0, "B0": 2.0, "B1": 2.0}
    assert makespan.makespan(table, times) == pytest.approx(15.0)  # (4 + 1) * 3
