"""What a caller asks of a search, read: numbers checked, and the placements that come into question."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import add

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules.constraints import at_least, ranks_of_stages
from funpipe.schedules.numbers import Numbers, broadcast, each
from funpipe.schedules.search_problem import Problem, Times

ROUNDING = 1e-9
"""A limit that misses a whole number of activations by less is taken to reach it."""


@dataclass(frozen=True)
class Request:
    """The arguments of `search` and `lower_bound`; see there for what they mean."""

    num_ranks: int
    num_microbatches: int
    F: Numbers
    I: Numbers
    W: Numbers
    B: Numbers | None
    latency: Numbers
    memory_limit: Numbers | None
    placement: Sequence[int] | None
    stages_per_rank: int | Sequence[int]
    split: bool

    def __post_init__(self) -> None:
        for name in ("num_ranks", "num_microbatches"):
            object.__setattr__(self, name, at_least(1, getattr(self, name), name, "search"))
        if self.placement is None:
            self._require_single_numbers()
        else:
            object.__setattr__(self, "placement", _on_all_ranks(self.placement, self.num_ranks))

    def _require_single_numbers(self) -> None:
        """Without a placement nobody knows how many stages there are."""
        for name in ("F", "I", "W", "B", "latency"):
            if getattr(self, name) is not None and np.ndim(getattr(self, name)):
                of = "boundary" if name == "latency" else "stage"
                raise ScheduleError(f"{name} has one number for each {of}; pass placement, the rank of each stage.")

    def problems(self) -> tuple[Problem, ...]:
        """One problem for each placement that comes into question."""
        return tuple(self.problem(placement) for placement in dict.fromkeys(self._placements()))

    def problem(self, placement: tuple[int, ...]) -> Problem:
        """The problem of one placement."""
        counts = np.bincount(placement, minlength=self.num_ranks)
        alike = counts[list(placement)]  # for each stage, how many there are on its rank
        f, i, w = _share("F", self.F, alike), _share("I", self.I, alike), _share("W", self.W, alike)
        b = tuple(map(add, i, w)) if self.B is None else _share("B", self.B, alike)
        latency = tuple(each("latency", self.latency, len(placement) - 1, "boundary").tolist())
        return Problem(placement, self.num_microbatches, f, b, i, w, latency, self._limits(counts), self.split)

    def _placements(self) -> Iterator[tuple[int, ...]]:
        if self.placement is not None:
            yield tuple(self.placement)
            return
        for stages in self.stage_counts():
            yield from placements(self.num_ranks, stages)

    def stage_counts(self) -> tuple[int, ...]:
        """The numbers of stages per rank to choose from."""
        if self.placement is not None:
            return (len(self.placement) // self.num_ranks,)
        asked = self.stages_per_rank
        counts = tuple(asked) if isinstance(asked, Sequence) else (asked,)
        if not counts:
            raise ScheduleError("stages_per_rank is empty; pass the numbers to choose from, like (1, 2).")
        return tuple(at_least(1, count, "stages_per_rank", "search") for count in counts)

    def _limits(self, counts: np.ndarray) -> tuple[int, ...]:
        """What each rank may hold in activations of one of its stages."""
        most = counts * self.num_microbatches
        if self.memory_limit is None:
            return tuple(most.tolist())
        limit = broadcast("memory_limit", self.memory_limit, self.num_ranks, "rank")
        if not (limit >= 1 - ROUNDING).all():
            raise ScheduleError(
                f"memory_limit={self.memory_limit!r} cannot be met: a rank holds the activations of all its stages for "
                "one microbatch when that turns from forward to backward; the least possible is memory_limit=1."
            )
        return tuple(np.minimum(np.floor(limit * counts + ROUNDING), most).astype(int).tolist())


def placements(num_ranks: int, stages_per_rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where stages go: around the ranks in a loop, or there and back.

    Args:
        num_ranks: ranks along the pipeline.
        stages_per_rank: how many stages each rank gets.

    Example:
        >>> placements(3, 2)
        ((0, 1, 2, 0, 1, 2), (0, 1, 2, 2, 1, 0))
    """
    there, back = tuple(range(num_ranks)), tuple(reversed(range(num_ranks)))
    back_and_forth = sum((back if lap % 2 else there for lap in range(stages_per_rank)), ())
    return there * stages_per_rank, back_and_forth


def _share(name: str, time: Numbers, counts: np.ndarray) -> Times:
    """The time of each stage: as given, or its part of the one time that its rank takes for all its stages."""
    times = each(name, time, len(counts), "stage")
    return tuple((times if np.ndim(time) else times / counts).tolist())


def _on_all_ranks(given: Sequence[int], num_ranks: int) -> tuple[int, ...]:
    """A placement of the caller's own, as integers."""
    placement = ranks_of_stages(given, "placement", "search")
    for stage, rank in enumerate(placement):
        if not 0 <= rank < num_ranks:
            raise ScheduleError(f"placement has stage {stage} on rank {rank}; use ranks 0 to {num_ranks - 1}.")
    missing = sorted(set(range(num_ranks)) - set(placement))
    if missing:
        raise ScheduleError(f"placement leaves rank {missing[0]} without a stage; give it one, or use fewer ranks.")
    return placement
