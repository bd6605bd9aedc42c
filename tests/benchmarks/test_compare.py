"""A comparison, with steps that only count."""

from collections.abc import Callable

import pytest

from tests.benchmarks.compare import LOSSES, compare, require_equal, slower
from tests.benchmarks.report import as_text
from tests.benchmarks.steps import Peer


def falling(rate: float, calls: list[int] | None = None):
    """Builds a step whose loss falls by a factor."""

    def build():
        loss = 1.0

        def step():
            nonlocal loss
            now, loss = loss, loss * rate
            if calls is not None:
                calls.append(1)
            return lambda: now

        return step

    return build


def constant(value: float) -> Callable[[], float]:
    return lambda: value


def test_all_are_timed_and_reported():
    results = compare([Peer("funpipe", falling(0.5)), Peer("theirs", falling(0.5))], 2, 1, 1e-4)
    assert {name: len(times) for name, times in results.times.items()} == {"funpipe": 2, "theirs": 2}
    text = as_text(results)
    assert "funpipe / theirs" in text and "<- the fastest" in text


def test_other_losses_are_an_error_before_anything_is_timed():
    calls: list[int] = []
    with pytest.raises(ValueError, match=r"loss of step 1 is 0\.5 with ours and 0\.4 with theirs.*mend the peer\.$"):
        compare([Peer("ours", falling(0.5, calls)), Peer("theirs", falling(0.4))], 2, 1, 1e-4)
    assert len(calls) == LOSSES


def test_a_rank_without_a_loss_compares_nothing():
    require_equal({"ours": [1.0, 2.0], "theirs": [None, None]}, 1e-4)


def test_a_loss_that_is_not_a_number_is_not_equal():
    with pytest.raises(ValueError, match="nan with theirs"):
        require_equal({"ours": [1.0], "theirs": [float("nan")]}, 1e-4)


def test_of_a_group_the_fastest_stays():
    peers = [Peer("ours", falling(1)), Peer("a", falling(1), "group"), Peer("b", falling(1), "group")]
    assert slower(peers, {"ours": constant(9.0), "a": constant(2.0), "b": constant(1.0)}) == {"a": 2.0}
