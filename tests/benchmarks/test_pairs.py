"""Turns and statistics."""

import pytest

from tests.benchmarks.pairs import Spread, alternate, ratios, seconds


def test_a_spread_is_median_and_tenths():
    spread = Spread.of([float(i) for i in range(11)])
    assert (spread.median, spread.low, spread.high) == pytest.approx((5, 1, 9))


def test_one_value_is_its_own_spread():
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)


def test_a_spread_prints():
    assert Spread(0.5, 0.25, 0.75).as_text() == "0.50 (0.25 to 0.75)"


def test_ratios_are_pair_by_pair():
    # The machine is half as fast in the second pair: the ratio does not move.
    assert ratios([1.0, 2.0, 1.0], [2.0, 4.0, 2.0]) == Spread(0.5, 0.5, 0.5)


def test_turns_are_reversed_every_second_time():
    calls: list[str] = []

    def timer(name: str):
        def call() -> float:
            calls.append(name)
            return float(len(calls))

        return call

    times = alternate({"a": timer("a"), "b": timer("b")}, 3)
    assert "".join(calls) == "abbaab"
    assert times == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_a_timing_reads_only_the_last_loss_and_meets_before_and_after():
    events: list[str] = []

    def step():
        events.append("step")
        return lambda: events.append("read")

    assert seconds(step, 2, lambda: events.append("meet")) >= 0
    assert events == ["meet", "step", "step", "read", "meet"]
