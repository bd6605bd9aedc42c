"""What a forward may save for its backward, and what each choice takes: bytes, and work that is done again.

For a fixed price of a byte the best choice is a minimum cut. Each value is two vertices, "computed again" and "there";
an edge from the source into the first costs what computing it costs, the edge between the two what saving it costs,
and what the backward wants is on the target's side.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from funpipe.stages.min_cut import Network


@dataclass(frozen=True)
class Choice:
    """What is saved and what is computed again (indices, ascending), the bytes of the one and the cost of the other."""

    saved: tuple[int, ...]
    again: tuple[int, ...]
    nbytes: int
    cost: int


@dataclass(frozen=True)
class Values:
    """The values of a forward, each after those it is computed from.

    Args:
        reads: for each value those that it is computed from.
        nbytes: what saving it takes; None: it is not saved.
        cost: what computing it again takes; None: it is not computed again.
        wanted: those that the backward reads.
    """

    reads: tuple[tuple[int, ...], ...]
    nbytes: tuple[int | None, ...]
    cost: tuple[int | None, ...]
    wanted: tuple[int, ...]

    def choice(self, saved: Iterable[int]) -> Choice:
        """What is used of `saved` and computed again from it; what cannot be computed again is saved too."""
        given, found = set(saved), set(self.wanted)
        again: list[int] = []
        waiting = list(self.wanted)
        while waiting:
            value = waiting.pop()
            if value in given or self.cost[value] is None:
                continue
            again.append(value)
            waiting += [r for r in self.reads[value] if r not in found]
            found.update(self.reads[value])
        used = tuple(sorted(found.difference(again)))
        return Choice(used, tuple(sorted(again)), _sum(self.nbytes, used), _sum(self.cost, again))

    def best(self, per_byte: int, per_cost: int) -> Choice:
        """The choice that minimizes `per_byte * nbytes + per_cost * cost`."""
        return self.choice(_cut(self, per_byte, per_cost))

    @cached_property
    def all_saved(self) -> Choice:
        """What the backward reads is saved."""
        return self.choice(self.wanted)

    @cached_property
    def none_saved(self) -> Choice:
        """Everything that can be computed again is, but for what takes no bytes to save."""
        return self.choice(v for v, nbytes in enumerate(self.nbytes) if nbytes == 0)

    @cached_property
    def smallest(self) -> Choice:
        """The fewest bytes, and of the choices with as many the cheapest."""
        return self.best(_sum(self.cost, range(len(self.cost))) + 1, 1)

    @cached_property
    def fastest(self) -> Choice:
        """The least cost, and of the choices with as little the smallest."""
        return self.best(1, _sum(self.nbytes, range(len(self.nbytes))) + 1)


def _cut(values: Values, per_byte: int, per_cost: int) -> list[int]:
    """What is saved by a minimum cut."""
    count = len(values.reads)
    source, target = 2 * count, 2 * count + 1
    unbounded = per_byte * _sum(values.nbytes, range(count)) + per_cost * _sum(values.cost, range(count)) + 1
    network = Network(2 * count + 2)
    for value, (nbytes, cost) in enumerate(zip(values.nbytes, values.cost, strict=True)):
        network.edge(source, 2 * value, unbounded if cost is None else per_cost * cost)
        network.edge(2 * value, 2 * value + 1, unbounded if nbytes is None else per_byte * nbytes)
        for read in values.reads[value]:
            network.edge(2 * read + 1, 2 * value, unbounded)
    for value in values.wanted:
        network.edge(2 * value + 1, target, unbounded)
    near = network.source_side(source, target)
    return [v for v in range(count) if near[2 * v] and not near[2 * v + 1]]


def _sum(amounts: tuple[int | None, ...], indices: Iterable[int]) -> int:
    return sum(amounts[i] or 0 for i in indices)
