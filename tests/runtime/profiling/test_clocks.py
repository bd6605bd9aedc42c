"""Clocks that differ are found out from numbers told in rounds."""

from hypothesis import given
from hypothesis import strategies as st

from funpipe.runtime.profiling.clocks import offsets, told

DELAYS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=12)


def rounds(delays, shift):
    """In each round both ranks tell their clock after some delay, then both know, and a little later go on."""
    now, found = 1_000_000, []
    for first, other, end in delays:
        found.append([now + first, now + other + shift])
        now += max(first, other) + end + 1
    return found


@given(DELAYS)
def test_one_clock_needs_no_offset(delays):
    assert offsets(rounds(delays, 0)) == [0, 0]


@given(DELAYS, st.integers(-(10**9), 10**9))
def test_an_offset_is_wrong_by_a_round_at_most(delays, shift):
    longest = max(max(first, other) + end + 1 for first, other, end in delays) * 2
    assert abs(offsets(rounds(delays, shift))[1] + shift) <= longest


def test_one_rank_is_its_own_clock():
    assert offsets(told(None)) == [0]
