"""What a search that gave up lets the user know."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from funpipe._errors import StageError
from funpipe.stages import Memory, labels
from funpipe.stages.best import best_bounds
from funpipe.stages.grid import Grid
from funpipe.stages.held import Held, Leaf
from tests.stages.grids import Case, grid_of


@dataclass(frozen=True)
class Given:
    """Amounts of a line and its leaves, instead of those of a graph."""

    made: Grid
    leaves: tuple[Leaf, ...]

    def grid(self, slots=None, *, copies=True):
        return self.made


@dataclass(frozen=True)
class Problem:
    """A line in few stages on fewer ranks, where one label a stage is not enough."""

    work: tuple[int, ...]
    resident: tuple[int, ...]
    saved: tuple[int, ...]
    in_flight: tuple[int, ...]
    ranks: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    limit: int

    def case(self) -> Case:
        grid = grid_of(self.work, (), self.resident, self.saved)
        return Case(Held(grid, np.array(self.in_flight), self.ranks, self.leaves), self.limit)

    def bounds(self, limit=None):
        memory = Memory(self.limit if limit is None else limit, self.in_flight, 2.0, self.ranks)
        return best_bounds(Given(self.case().grid, self.leaves), len(self.ranks), memory)  # pyright: ignore


MISSED = Problem(
    work=(7, 2, 6, 7),
    resident=(5, 5, 2, 6),
    saved=(8, 1, 4, 9),
    in_flight=(2, 3, 1),
    ranks=(0, 1, 1),
    leaves=(Leaf(0, (1,), 1),),
    limit=29,
)
SLOWER = Problem(
    work=(9, 9, 9, 6, 0, 1),
    resident=(1, 4, 14, 5, 0, 8),
    saved=(1, 4, 7, 7, 2, 7),
    in_flight=(0, 0, 1, 1),
    ranks=(0, 1, 0, 1),
    leaves=(Leaf(2, (3,), 2), Leaf(2, (4, 5), 7)),
    limit=33,
)


def best(problem):
    """The least time of the slowest stage of all partitions that keep the limit."""
    case = problem.case()
    return min(case.slowest(b) for b in case.partitions() if case.fullest(b) <= case.limit)


@pytest.mark.parametrize("problem", [MISSED, SLOWER])
def test_a_search_that_keeps_all_labels_is_silent_and_exact(problem):
    assert problem.case().slowest(problem.bounds()) == best(problem)


def test_a_search_that_gave_up_does_not_claim_that_there_is_no_cut(monkeypatch):
    monkeypatch.setattr(labels, "MOST", 1)
    with pytest.raises(
        StageError,
        match=r"^found no cut into 3 stages that keeps the limit of 29 bytes on every rank; the search gave up after 1 "
        r"ways to cut the beginning, so one may exist\. Raise the limit, use fewer stages per rank, .* in flight\.$",
    ):
        MISSED.bounds()


def test_a_cut_that_may_not_be_the_fastest_comes_with_a_warning(monkeypatch):
    monkeypatch.setattr(labels, "MOST", 1)
    with pytest.warns(
        UserWarning,
        match=r"into 4 stages keeps the memory limit, but may not be the fastest that does: .* of which it keeps 1\. "
        r"Compare it with a cut under a higher limit, or with fewer stages per rank\.",
    ):
        bounds = SLOWER.bounds()
    assert SLOWER.case().fullest(bounds) <= SLOWER.limit and SLOWER.case().slowest(bounds) > best(SLOWER)


def test_that_no_cut_keeps_a_limit_is_proved_though_the_best_one_is_not(monkeypatch):
    monkeypatch.setattr(labels, "MOST", 1)
    with pytest.raises(StageError, match=r"no cut into 3 stages keeps the limit of 1 .*: in the best one found the .*"):
        MISSED.bounds(limit=1)


def test_a_limit_that_is_kept_anyway_needs_no_search(monkeypatch):
    monkeypatch.setattr(labels, "MOST", 1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        MISSED.bounds(limit=10**6)
    assert not told
