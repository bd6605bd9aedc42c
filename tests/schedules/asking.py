"""Problems of searches, and the least makespan that a limit on memory leaves."""

from collections.abc import Iterator

from hypothesis import strategies as st

from funpipe.schedules.search_problem import Problem
from funpipe.schedules.search_request import Request
from tests.schedules.optimal import Search, State

TIMES = st.integers(1, 3)


def problem_of(placement, m, F=1.0, I=1.0, W=1.0, *, B=None, latency=0.0, limit=None, split=True) -> Problem:
    """A problem whose times are of one stage; the limit is in activations of one stage, the same on each rank."""
    ranks, stages = max(placement) + 1, len(placement)
    times = [None if time is None else [time] * stages for time in (F, I, W, B)]
    request = Request(ranks, m, *times, latency, None, placement, 1, split)
    problem = request.problem(tuple(placement))
    return problem if limit is None else Problem(**{**vars_of(problem), "limits": (limit,) * ranks})


def vars_of(problem: Problem) -> dict:
    return {name: getattr(problem, name) for name in Problem.__dataclass_fields__}


@st.composite
def problems(draw: st.DrawFn, most_stages: int = 6, most_microbatches: int = 5) -> Problem:
    """Any problem with up to three ranks, times per stage, some latency and a limit that can be met."""
    ranks = draw(st.integers(1, 3))
    spare = draw(st.lists(st.integers(0, ranks - 1), max_size=most_stages - ranks))
    placement = tuple(draw(st.permutations([*range(ranks), *spare])))
    m, stages = draw(st.integers(1, most_microbatches)), len(placement)
    F, I, W = (tuple(map(float, draw(st.lists(TIMES, min_size=stages, max_size=stages)))) for _ in "FIW")
    limits = [draw(st.integers(placement.count(rank), placement.count(rank) * m)) for rank in range(ranks)]
    latency = tuple(map(float, draw(st.lists(st.integers(0, 2), min_size=stages - 1, max_size=stages - 1))))
    both = tuple(i + w for i, w in zip(I, W, strict=True))
    return Problem(placement, m, F, both, I, W, latency, tuple(limits), draw(st.booleans()))


class Limited(Search):
    """`Search`, whose ranks hold no more activations than a limit."""

    def __init__(self, placement, num_microbatches, times, limit: int):
        super().__init__(placement, num_microbatches, times)
        self.limit = limit

    def _next(self, done, running) -> Iterator[State]:
        for after, busy in super()._next(done, running):
            if all(self._held(after, busy[rank][0], rank) <= self.limit for rank in range(len(busy))):
                yield after, busy

    def _held(self, done, item: int, rank: int) -> int:
        """The activations of a rank; an F counts from its start."""
        firsts = [item for item in self.on_rank[rank] if item % self.kinds == 0]
        return sum(done[f] - done[f + self.kinds - 1] for f in firsts) + (item in firsts)

    def best(self) -> int:
        limit = 0
        while not self.ends_within(limit):
            limit += 1
        return limit
