"""The time of whole regions."""

import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.planning.measured_inputs import inputs_of
from funpipe.planning.measured_regions import Call, low, region_calls, region_seconds, with_times
from funpipe.stages import partition, split_backward
from tests.planning.measuring import Script, chain


def test_a_compiled_region_computes_what_the_interpreted_one_does():
    traced = chain()
    values = {"batch.": torch.rand(8, 16)}
    inputs = inputs_of(traced, values)
    both = [region_calls(partition(traced, (4,)), inputs, backend=b) for b in ("step", "interpret")]
    assert [call.name for call in both[0]] == ["F0", "F1", "B1", "B0"]
    for one, other in zip(*both, strict=True):
        assert all(torch.allclose(x, y) for x, y in zip(one(), other(), strict=True))


def test_the_parts_of_a_split_backward_are_regions_beside_it():
    traced = chain()
    calls = region_calls(split_backward(partition(traced, (4,))), inputs_of(traced), backend="interpret")
    assert [call.name for call in calls] == [
        "F0",
        "F1",
        "B1",
        "I1",
        "W1",
        "B0",
        "W0",
    ]  # nobody waits for an I of stage 0


def test_a_call_can_be_repeated():
    """The function empties the list that it is given; the tensors of a call stay."""
    traced = chain()
    (call, *_) = region_calls(partition(traced, ()), inputs_of(traced), backend="interpret")
    assert all(torch.equal(x, y) for x, y in zip(call(), call(), strict=True))


def test_an_unknown_backend():
    with pytest.raises(FunpipeError, match=r"backend is 'jit'; measure with one of 'step', 'interpret'\."):
        region_calls((), {}, backend="jit")


def test_the_least_of_a_few_calls_counts_after_others_that_warm_up():
    script = Script(64, 32, 1, 4, 2)
    assert region_seconds([Call("F0", script.call, (), "cpu")], rounds=3, least=0, clock=script) == {"F0": 1}
    assert not script.durations


def test_of_many_calls_the_tenth_percentile_counts():
    assert low([9.0, 1.0, *(5.0,) * 8]) == 5.0 and low([2.0]) == 2.0


def test_in_each_round_every_region_runs_once():
    script = Script(64, 32, 64, 32, 4, 40, 1, 10, 2, 20)
    regions = [Call(name, script.call, (), "cpu") for name in ("F0", "B0")]
    assert region_seconds(regions, rounds=3, least=0, clock=script) == {"F0": 1, "B0": 10}


def test_rounds_go_on_until_the_time_is_over():
    script = Script(9, 9, 2, 3, 1, 8)
    assert region_seconds([Call("F0", script.call, (), "cpu")], rounds=1, least=6, clock=script) == {"F0": 1}
    assert script.durations == [8]


def test_times_replace_those_of_the_nodes():
    stages = partition(chain(), (4,))
    found = with_times(stages, {"F0": 1.0, "F1": 2.0, "B1": 6.0, "B0": 3.0})
    assert (found.F, found.B) == ((1.0, 2.0), (3.0, 6.0)) and found.I[1] + found.W[1] == pytest.approx(6.0)


def test_the_parts_of_a_split_backward_have_their_own_times():
    stages = split_backward(partition(chain(), (4,)))
    found = with_times(stages, {"F0": 1.0, "F1": 2.0, "I1": 3.0, "W1": 4.0, "W0": 5.0})
    assert (found.I, found.W) == ((0.0, 3.0), (5.0, 4.0))
