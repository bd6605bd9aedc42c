"""The shortest makespan that any order of the tasks has, by exhaustive search.

Microbatches are alike, so a stage may run them in ascending order: its n-th task can be fed by the n-th one of its
neighbour whenever any numbering is possible. What is done is then a count for each stage and kind (an *item*, numbered
`stage * num_kinds + kind`), and integer times make every start an integer. The search goes through all that may be
done and running at each time, ranks idle by choice included, and leaves out only what can no longer end in time.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product

State = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]
"""How often each item is done, and for each rank the item that it runs and the time left of it; NOTHING for none."""

NOTHING = (-1, 0)


@cache
def best_makespan(placement: tuple[int, ...], num_microbatches: int, times: tuple[int, ...]) -> int:
    """The least time in which everything can be done; `times` are of F and B, or of F, I and W."""
    search, limit = Search(placement, num_microbatches, times), 0
    while not search.ends_within(limit):
        limit += 1
    return limit


class Search:
    def __init__(self, placement: tuple[int, ...], num_microbatches: int, times: tuple[int, ...]):
        self.kinds, self.num_items, self.m = len(times), len(placement) * len(times), num_microbatches
        items = range(self.num_items)
        self.times = [times[item % self.kinds] for item in items]
        self.needs = [self._needs(item) for item in items]
        self.tails = [self._tail(item) for item in items]
        ranks = range(max(placement) + 1)
        self.on_rank = [[item for item in items if placement[item // self.kinds] == rank] for rank in ranks]

    def ends_within(self, limit: int) -> bool:
        states: set[State] = {((0,) * self.num_items, (NOTHING,) * len(self.on_rank))}
        for left in range(limit, 0, -1):
            states = {after for state in states for after in self._next(*state) if self._can_end(*after, left - 1)}
        return any(min(done) == self.m for done, _ in states)

    def _needs(self, item: int) -> list[int]:
        """The items of which as many have to be done before."""
        stage, kind = divmod(item, self.kinds)
        if kind == 0:
            return [item - self.kinds] if stage else []
        return [item - 1, *([item + self.kinds] if kind == 1 and item + self.kinds < self.num_items else [])]

    def _tail(self, item: int) -> int:
        """The time of the chain of tasks that one microbatch still has to go through after an item."""
        after = [other for other in range(self.num_items) if item in self.needs[other]]
        return max((self.times[other] + self._tail(other) for other in after), default=0)

    def _next(self, done: tuple[int, ...], running: tuple[tuple[int, int], ...]) -> Iterator[State]:
        """All that may be the case one unit of time later."""
        choices = [
            [(item, left)] if left else [NOTHING, *((i, self.times[i]) for i in items if self._is_ready(done, i))]
            for (item, left), items in zip(running, self.on_rank, strict=True)
        ]
        for chosen in product(*choices):
            counts = list(done)
            for item, left in chosen:
                counts[item] += left == 1
            yield tuple(counts), tuple((item, left - 1) if left > 1 else NOTHING for item, left in chosen)

    def _is_ready(self, done: tuple[int, ...], item: int) -> bool:
        return done[item] < self.m and all(done[item] < done[need] for need in self.needs[item])

    def _can_end(self, done: tuple[int, ...], running: tuple[tuple[int, int], ...], left: int) -> bool:
        """No rank has more work than there is time, nor any item with the chain behind its last microbatch."""
        for (item, rest), items in zip(running, self.on_rank, strict=True):
            spent, work = (self.times[item] - rest if rest else 0), 0
            for i in items:
                if todo := (self.m - done[i]) * self.times[i]:
                    work += todo
                    if todo - spent + self.tails[i] > left:
                        return False
            if work - spent > left:
                return False
        return True
