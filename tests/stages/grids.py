"""Random lines of segments: amounts of every part, small enough that all partitions can be looked at."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from hypothesis import strategies as st

from funpipe.stages.corners import Corners, counted
from funpipe.stages.grid import Grid
from funpipe.stages.held import Bounds, Held, Leaf
from funpipe.stages.lookup import Lookup

amount = st.integers(0, 9)


def each(amounts):
    """What every part that contains a segment has."""
    return [counted([i], n) for i, n in enumerate(amounts)]


def grid_of(work, received=(), resident=(), saved=()) -> Grid:
    """A grid of amounts for each segment, and items received; a message takes a tick, and two a byte."""
    size = len(work)
    resident, saved = ([*amounts, *[0] * (size - len(amounts))] for amounts in (resident, saved))
    return Grid(
        work=Corners.of(size, each(work)),
        received=Corners.of(size, received),
        resident=Corners.of(size, each(resident)),
        saved=Corners.of(size, each(saved)),
        transfer=Lookup(lambda nbytes: 2 * nbytes + (nbytes > 0)),
        done=np.cumsum([0, *work]),
        kept=np.cumsum([0, *resident]),
    )


@dataclass(frozen=True)
class Case:
    """A line, the ranks of its stages, and a limit."""

    held: Held
    limit: int

    @property
    def grid(self) -> Grid:
        return self.held.grid

    def partitions(self) -> list[Bounds]:
        size, count = self.grid.size, len(self.held.ranks)
        return [(0, *inner, size) for inner in combinations(range(1, size), count - 1)]

    def slowest(self, bounds: Bounds) -> int:
        return int(self.grid.stages(bounds).time.max())

    def fullest(self, bounds: Bounds) -> int:
        return int(self.held(bounds).max())


@st.composite
def cases(draw: st.DrawFn, shared: bool) -> Case:
    """Up to 8 segments in up to 5 stages; where `shared`, on up to 3 ranks in a loop or a V, with shared leaves."""
    size = draw(st.integers(2, 8))
    amounts = [draw(st.lists(amount, min_size=size, max_size=size)) for _ in range(3)]
    segments = st.integers(0, size - 1)
    received = []
    for _ in range(draw(st.integers(0, 4))):
        made, read, nbytes = draw(segments), draw(st.sets(segments, min_size=1, max_size=3)), draw(amount)
        received.append(counted(sorted(s for s in read if s > made), nbytes, after=made))
        received.append(counted(sorted(s for s in read if s < made), nbytes, before=made))
    leaves = [_leaf(draw, segments) for _ in range(draw(st.integers(0, 2)))] if shared else []
    for leaf in leaves:
        amounts[1][leaf.home] += leaf.nbytes
    stages = draw(st.integers(1, min(size, 5)))
    in_flight = np.array(draw(st.lists(st.integers(0, 3), min_size=stages, max_size=stages)))
    held = Held(grid_of(amounts[0], received, *amounts[1:]), in_flight, _ranks(draw, stages, shared), leaves)
    return Case(held, draw(st.integers(0, 60)))


def _leaf(draw: st.DrawFn, segments: st.SearchStrategy[int]) -> Leaf:
    """A backward may read it in a segment before the one where it lives."""
    read = draw(st.sets(segments, min_size=2, max_size=3))
    home = draw(st.sampled_from(sorted(read)))
    return Leaf(home, tuple(sorted(read - {home})), draw(amount))


def _ranks(draw: st.DrawFn, stages: int, shared: bool) -> tuple[int, ...]:
    if not shared:
        return tuple(range(stages))
    p = draw(st.integers(1, min(stages, 3)))
    if draw(st.booleans()):
        return tuple(s % p for s in range(stages))
    return tuple(min(s % (2 * p), 2 * p - 1 - s % (2 * p)) for s in range(stages))
