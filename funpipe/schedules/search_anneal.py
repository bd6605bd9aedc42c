"""Shortens rows by moves, one after the other, and takes a longer order now and then in order to leave a dead end.

Of a few moves drawn at random the one that promises most is tried. It is kept if the rows get at most as much longer as
the temperature allows, which falls to nothing (simulated annealing: S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi,
"Optimization by Simulated Annealing", 1983).
"""

from itertools import islice
from random import Random

from funpipe.schedules.search_clock import Found, Timing, tails, timing
from funpipe.schedules.search_moves import Move, blocks, estimate, holding, is_allowed

DRAWN = 12
"""Moves that are compared before one is tried."""

WARMTH = 0.5
"""The first temperature, in times of a mean task."""

LENGTHS = (1, 1, 2, 4, 8, 1 << 30)
"""How far a task is moved at most; near moves are drawn more often."""


class _Walk:
    """Where the search is: rows, their times, and what can be moved."""

    def __init__(self, found: Found) -> None:
        self.graph, self.rows = found.graph, [list(row) for row in found.rows]
        self.held = [holding(found.graph, row) for row in found.rows]
        self._know(found.times)

    def _know(self, times: Timing) -> None:
        self.times = times
        self.tail = tails(self.graph, self.rows, times.order)
        self.blocks = blocks(self.graph, self.rows, times, self.tail)

    def draw(self, random: Random) -> Move | None:
        """A move in a block, or None if the one that was drawn is not allowed."""
        rank, first, last = random.choice(self.blocks)
        low = random.randrange(first, last)
        high = random.randint(low + 1, min(last, low + random.choice(LENGTHS)))
        move = Move(rank, low, high, random.random() < 0.5)
        return move if is_allowed(self.graph, self.rows[rank], self.held[rank], move) else None

    def best(self, random: Random) -> Move | None:
        """The move that promises most among some."""
        draws = (move for _ in range(4 * DRAWN) if (move := self.draw(random)) is not None)
        drawn = list(islice(draws, DRAWN))
        promise = [estimate(self.graph, self.rows[move.rank], move, self.times, self.tail) for move in drawn]
        return min(zip(promise, range(len(drawn)), drawn, strict=True), default=(0.0, 0, None))[2]

    def make(self, move: Move, allowed: float) -> bool:
        """Makes a move, unless the makespan would be above what is allowed."""
        row = self.rows[move.rank]
        self.rows[move.rank] = [*row[: move.low], *move.piece(row), *row[move.high + 1 :]]
        times = timing(self.graph, self.rows)
        if times is None or times.makespan > allowed:
            self.rows[move.rank] = row
            return False
        self.held[move.rank] = holding(self.graph, self.rows[move.rank])
        self._know(times)
        return True


def anneal(found: Found, *, tries: int, target: float, random: Random) -> Found:
    """The shortest rows that some moves lead to.

    Args:
        found: where to begin; within the limits.
        tries: how many moves to try.
        target: a makespan at which to stop.
        random: what draws the moves.

    Returns:
        The rows and their times; never longer than at the beginning.
    """
    walk, best = _Walk(found), found
    warmth = WARMTH * sum(found.graph.duration) / found.graph.none
    for left in range(tries, 0, -1):
        if best.makespan <= target or not walk.blocks:
            break
        move = walk.best(random)
        allowed = walk.times.makespan + warmth * left / tries * random.random()
        if move is not None and walk.make(move, allowed) and walk.times.makespan < best.makespan:
            best = Found(found.graph, [list(row) for row in walk.rows], walk.times)
    return best
