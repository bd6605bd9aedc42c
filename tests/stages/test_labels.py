"""Ways to cut the beginning of a line, followed stage by stage."""

import numpy as np
import pytest
from hypothesis import given, settings

from funpipe.stages import labels
from funpipe.stages.grid import NEVER
from funpipe.stages.held import Held, Leaf
from funpipe.stages.labels import Bound, Found, follow
from funpipe.stages.suffixes import windows
from tests.stages.grids import cases, grid_of


def followed(held, limit, ticks=NEVER - 1):
    """Without a bound of what comes: labels alone decide."""
    allowed = windows(held.grid.reach(ticks, limit), len(held.ranks))
    nothing = Bound(np.zeros(held.num_ranks, np.int64), np.zeros(allowed.shape, np.int64))
    return follow(held, allowed, [nothing], limit, ticks)


@given(cases(shared=True))
@settings(max_examples=60, deadline=None)
def test_they_find_a_partition_that_keeps_the_limit_if_there_is_one(case):
    found = followed(case.held, case.limit)
    least = min(map(case.fullest, case.partitions()))
    assert found.proved and (found.bounds is not None) == (least <= case.limit)
    assert found.bounds is None or case.fullest(found.bounds) <= case.limit


@given(cases(shared=True))
@settings(max_examples=40, deadline=None)
def test_no_stage_is_slower_than_allowed(case):
    ticks = min(map(case.slowest, case.partitions()))
    found = followed(case.held, 10**6, ticks)
    assert found.bounds is not None and case.slowest(found.bounds) == ticks
    if ticks:
        assert followed(case.held, 10**6, ticks - 1) == Found(None)


def loop(nbytes=(5, 0, 4, 1, 2), leaves=()):
    """Three stages on two ranks."""
    return Held(grid_of([1] * len(nbytes), resident=nbytes), np.zeros(3, np.int64), (0, 1, 0), leaves)


def test_where_labels_were_dropped_that_none_is_found_proves_nothing(monkeypatch):
    held, other = loop((1, 5, 7, 8, 1)), loop((6, 4, 7, 5, 9))
    assert followed(held, 16) == Found((0, 1, 3, 5)) and followed(other, 11) == Found(None)
    monkeypatch.setattr(labels, "MOST", 1)
    assert followed(held, 16) == Found(None, proved=False)
    assert followed(other, 11) == Found(None)  # the first stage's ways end by themselves


def test_a_bound_drops_what_cannot_keep_the_limit(monkeypatch):
    """With a bound that no partition reaches, nothing is followed beyond the first stage."""
    seen = []
    grown = labels._grown

    def watched(held, stage, *rest):
        seen.append(stage)
        return grown(held, stage, *rest)

    monkeypatch.setattr(labels, "_grown", watched)
    held = loop()
    allowed = windows(held.grid.reach(NEVER - 1, 20), 3)
    hopeless = Bound(np.array([1, 1]), np.full(allowed.shape, 100))
    assert follow(held, allowed, [hopeless], 20, NEVER - 1) == Found(None) and seen == [0, 1]


@pytest.mark.parametrize("home", [0, 1, 2])
def test_a_rank_has_one_copy_of_a_leaf(home):
    """Both ranks read it, rank 0 in two stages: before the stage where it lives, there, or behind it."""
    nbytes = [1, 1, 1]
    nbytes[home] += 7
    leaf = Leaf(home, tuple({0, 1, 2} - {home}), 7)
    held = loop(nbytes, [leaf])
    assert held((0, 1, 2, 3)).tolist() == [9, 8]
    assert followed(held, 9) == Found((0, 1, 2, 3)) and followed(held, 8) == Found(None)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([[1, 5], [5, 1], [3, 3]], [[1, 5], [3, 3], [5, 1]]),
        ([[1, 5], [1, 5]], [[1, 5]]),
        ([[2, 2], [2, 3], [1, 9]], [[2, 2], [1, 9]]),
    ],
    ids=["none is worse", "equal ones once", "one is worse"],
)
def test_what_is_nowhere_lighter_than_another_is_dropped(rows, kept):
    amounts = np.array(rows)
    assert sorted(amounts[labels._undominated(amounts)].tolist()) == sorted(kept)
