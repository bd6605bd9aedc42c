"""Moves that can shorten rows: a task on a longest path goes before or after others that are on it too.

The makespan is the length of a longest path through the tasks. A *block* is a run of tasks of one rank, one right
after the other, that are all on such a path. Only an order in which some block is different can be shorter, so
everything else is left alone (J. Grabowski, E. Nowicki, S. Zdrzalka, "A block approach for single-machine scheduling",
1986). How long the rows get is estimated from the times before and after each task as they were, which is right unless
a path leaves the moved tasks and comes back to them (E. Balas, A. Vazacopoulos, "Guided local search with shifting
bottleneck for job shop scheduling", 1998).
"""

from dataclasses import dataclass

from funpipe.schedules.search_clock import Timing
from funpipe.schedules.search_graph import F, Graph, Rows

CLOSE = 1e-9
"""Times that differ by less are taken as equal, in parts of the makespan."""


@dataclass(frozen=True)
class Move:
    """A task goes to the other end of a piece of its row.

    Args:
        rank: the row.
        low: the piece's first position.
        high: its last one.
        later: whether the first task goes to the end; else the last one goes to the beginning.
    """

    rank: int
    low: int
    high: int
    later: bool

    def piece(self, row: list[int]) -> list[int]:
        """The tasks of the piece after the move."""
        if self.later:
            return [*row[self.low + 1 : self.high + 1], row[self.low]]
        return [row[self.high], *row[self.low : self.high]]


def blocks(graph: Graph, rows: Rows, times: Timing, tail: list[float]) -> list[tuple[int, int, int]]:
    """The blocks of two tasks and more: rank, first and last position."""
    close = CLOSE * times.makespan
    longest, end, duration, none = times.makespan - close, times.end, graph.duration, graph.none
    found = []
    for rank, row in enumerate(rows):
        low, before = 0, -1.0  # before: the end of the task to the left if that is on a longest path
        for at, number in enumerate([*row, none]):
            on_path = number < none and end[number] + tail[number] > longest
            if not (on_path and before >= end[number] - duration[number] - close):
                if before >= 0 and at - 1 > low:
                    found.append((rank, low, at - 1))
                low = at
            before = end[number] if on_path else -1.0
    return found


def holding(graph: Graph, row: list[int]) -> list[int]:
    """How many activations a rank holds after each task of its row."""
    held, after = 0, []
    for number in row:
        held += (number % 3 == F) - (number % 3 == graph.frees)
        after.append(held)
    return after


def is_allowed(graph: Graph, row: list[int], held: list[int], move: Move) -> bool:
    """Whether each stage stays in order and the rank within its limit; `held` is `holding` of the row."""
    number = row[move.low if move.later else move.high]
    others = row[move.low + 1 : move.high + 1] if move.later else row[move.low : move.high]
    stage, kind, pair = graph.stage[number], number % 3, number // 3
    if any(graph.stage[o] == stage and (o % 3 == kind or o // 3 == pair) for o in others):
        return False
    if kind != (graph.frees if move.later else F):
        return True  # it holds no more than before
    if move.later:
        during = held[move.low + 1 : move.high + 1]
    else:
        during = [held[move.low - 1] if move.low else 0, *held[move.low : move.high]]
    return max(during) < graph.problem.limits[move.rank]


def estimate(graph: Graph, row: list[int], move: Move, times: Timing, tail: list[float]) -> float:
    """About how long the longest path through the moved tasks is after a move."""
    piece = move.piece(row)
    ends = _new_ends(graph, piece, times.end[row[move.low - 1]] if move.low else 0.0, times.end)
    following = row[move.high + 1] if move.high + 1 < len(row) else graph.none
    after, new, longest = tail[following] + graph.duration[following], {}, 0.0
    for number in reversed(piece):
        for reader in graph.readers[number]:
            after = max(after, new.get(reader, tail[reader]) + graph.duration[reader] + graph.delay[reader])
        new[number] = after
        longest = max(longest, ends[number] + after)
        after += graph.duration[number]
    return longest


def _new_ends(graph: Graph, piece: list[int], now: float, end: list[float]) -> dict[int, float]:
    ends: dict[int, float] = {}
    for number in piece:
        need = graph.need[number]
        now = max(now, ends.get(need, end[need]) + graph.delay[number]) + graph.duration[number]
        ends[number] = now
    return ends
