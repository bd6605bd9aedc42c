"""From a traced graph to the amounts of all its possible stages.

Work is that of the nodes of the joint graph that run in a stage, forward and backward; a stage receives the values that
its nodes read and other stages make, earlier ones in a forward and later ones in a backward. What a stage has once
however often it uses it is counted once: a tied or frozen leaf, a received value, a constant that its forward, or its
backward, makes anew.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from torch import fx

from funpipe.stages.corners import Corners, counted
from funpipe.stages.costs import Costs, types_of
from funpipe.stages.grid import NEVER, Grid
from funpipe.stages.held import Leaf
from funpipe.stages.line import Line
from funpipe.stages.lookup import Lookup

SCALE = 2**48
"""Ticks of all work and one transfer of every value."""

Corner = tuple[int, int, int]


class Amounts:
    """The amounts of all possible stages of a graph.

    Args:
        line: the segments.
        costs: the time of a node and of a transfer.
    """

    def __init__(self, line: Line, costs: Costs) -> None:
        self.line, self.traced, self.costs = line, line.traced, costs
        self.segment, self.places = line.assigned.stage, line.assigned.places
        self.backward = set(self.traced.backward)
        self.owned = [n for n in self._live() if n in self.segment]

    def grid(self, slots: float | None = None, *, copies: bool = True) -> Grid:
        """The amounts.

        Args:
            slots: the bytes of optimizer state for each byte of a trained parameter; None: memory is not of interest.
            copies: whether a stage that reads a leaf of another stage holds a copy; else a leaf counts once at all.
        """
        size, scale = self.line.num_segments, self.scale
        work = np.zeros(size, np.int64)
        for node in self.owned:
            work[self.segment[node]] += round(self.costs.node(node) * scale)
        always = np.zeros(size, np.int64) if slots is None else self._always(slots)
        resident = [*_each(always), *(self._copies() if copies else ())]
        return Grid(
            work=Corners.of(size, [*_each(work), *self._constants()]),
            received=Corners.of(size, self._received()),
            resident=Corners.of(size, resident if slots is not None else ()),
            saved=Corners.of(size, self._saved() if slots is not None else ()),
            transfer=Lookup(lambda n: min(round(self.costs.transfer(n) * scale), NEVER) if n else 0),
            done=np.concatenate([[0], np.cumsum(work)]),
            kept=np.concatenate([[0], np.cumsum(always)]),
        )

    def _live(self) -> list[fx.Node]:
        """The nodes that regions compute, in graph order."""
        gradients = (term for terms in self.traced.gradients.values() for term in terms)
        waiting, found = [*self.traced.outputs.values(), *gradients], set()
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += node.all_input_nodes
        return [n for n in self.traced.graph.nodes if n in found]

    @cached_property
    def scale(self) -> float:
        """Ticks a second."""
        everything = sum(t.nbytes for n in self.owned for t in types_of(n))
        total = sum(map(self.costs.node, self.owned)) + self.costs.transfer(everything)
        return SCALE / total if total else 0.0

    @cached_property
    def _readers(self) -> dict[bool, dict[fx.Node, set[int]]]:
        """The segments whose forward (False), or backward (True), reads each value, leaves included."""
        found: dict[bool, dict[fx.Node, set[int]]] = {False: {}, True: {}}
        for node in self.owned:
            for value in self.line.sources.of(node):
                found[node in self.backward].setdefault(value, set()).add(self.segment[node])
        for name, terms in self.traced.gradients.items():
            for term, place in zip(terms, self.places[name], strict=True):
                for value in self.line.sources.anchors([term]):
                    found[True].setdefault(value, set()).add(place)
        return found

    def _read(self, value: fx.Node) -> set[int]:
        """The segments that read a value, in a forward or a backward."""
        return self._readers[False].get(value, set()) | self._readers[True].get(value, set())

    def _constants(self) -> Iterator[Iterable[Corner]]:
        """Constants, once for each forward and each backward that needs them."""
        needed: dict[tuple[fx.Node, bool], set[int]] = {}
        for node in self.owned:
            for constant in self._constants_of(node):
                needed.setdefault((constant, node in self.backward), set()).add(self.segment[node])
        for (constant, _), segments in needed.items():
            yield counted(sorted(segments), round(self.costs.node(constant) * self.scale))

    def _constants_of(self, node: fx.Node) -> set[fx.Node]:
        waiting, found = list(node.all_input_nodes), set()
        while waiting:
            source = waiting.pop()
            if self.line.sources.floats(source) and source not in found:
                found.add(source)
                waiting += source.all_input_nodes
        return {n for n in found if self.costs.node(n)}

    def _received(self) -> Iterator[Iterable[Corner]]:
        for value in self.owned:
            made, read = self.segment[value], self._read(value)
            later, earlier = (sorted(s for s in read if s > made), sorted(s for s in read if s < made))
            yield counted(later, _nbytes(value), after=made)
            yield counted(earlier, _nbytes(value), before=made)

    def _saved(self) -> Iterator[Iterable[Corner]]:
        """What the forward has and the backward of the same stage reads; results wait for the end of the step."""
        waiting = {node for name, node in self.traced.outputs.items() if not name.startswith("buffer.")}
        for value in self._held_until_read():
            if value not in waiting:
                yield counted(sorted(self._readers[True].get(value, ())), _nbytes(value))

    def _held_until_read(self) -> Iterator[fx.Node]:
        """Values that the forward makes, and buffers that it replaces by new ones."""
        yield from (n for n in self.owned if n not in self.backward)
        leaves = self.traced.leaves
        names = (name.removeprefix("buffer.") for name in self.traced.outputs if name.startswith("buffer."))
        yield from (leaves["buffer", name] for name in names if ("buffer", name) in leaves)

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """The parameters and buffers that are read."""
        found = self.traced.leaves.items()
        return tuple(self._leaf(name, node) for (kind, name), node in found if kind in ("param", "buffer"))

    def _leaf(self, name: str, node: fx.Node) -> Leaf:
        """A trained leaf lives where a forward reads it first, any other where anything does."""
        read = self._readers[False].get(node, {0}) if name in self.traced.gradients else self._read(node) or {0}
        return Leaf(min(read), tuple(sorted(self._read(node) - {min(read)})), _nbytes(node))

    def _always(self, slots: float) -> np.ndarray:
        """The bytes that a segment brings to any stage: leaves that live there, and accumulators of gradients."""
        held = np.zeros(self.line.num_segments, np.int64)
        for leaf in self.leaves:
            held[leaf.home] += leaf.nbytes
        for name, places in self.places.items():
            node = self.traced.leaves.get(("param", name))
            kind = self.traced.params[name]
            if node is not None:
                held[self._leaf(name, node).home] += round(slots * kind.nbytes)
            for place in places:
                held[place] += kind.nbytes
        return held

    def _copies(self) -> Iterator[Iterable[Corner]]:
        """Leaves of other stages, once for each stage that reads them."""
        for leaf in self.leaves:
            earlier, later = ([s for s in leaf.others if (s > leaf.home) == up] for up in (False, True))
            yield counted(later, leaf.nbytes, after=leaf.home)
            yield counted(earlier, leaf.nbytes, before=leaf.home)


def _each(amounts: np.ndarray) -> Iterator[Iterable[Corner]]:
    """What every part that contains a segment has."""
    return (counted([i], int(amount)) for i, amount in enumerate(amounts))


def _nbytes(node: fx.Node) -> int:
    return sum(t.nbytes for t in types_of(node))
