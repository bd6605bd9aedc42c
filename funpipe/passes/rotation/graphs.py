"""`RotatedGraphs`: a step whose chosen work has moved into the next one, as three graphs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from funpipe._errors import RotateError
from funpipe._typing import TensorType
from funpipe.graphs.graph import Graph

CARRY = "carry."
"""The prefix of inputs and outputs that hold what the deferred work reads."""

PARTS = ("first", "main", "flush")
"""The names of the three graphs, in order."""


@dataclass(frozen=True, eq=False)
class RotatedGraphs:
    """A step cut into a head, which runs in its own step, and a tail, which runs in the next.

        first:  state             , batch  ->  partial, carry, aux      the head
        main:   partial, carry    , batch  ->  partial, carry, aux      the tail of the step before, and the head
        flush:  partial, carry             ->  state                    the tail

    Args:
        first: the first step.
        main: every other one; each node of the tail stands before the first that reads what it makes.
        flush: completes the state.
        carry: the type of each value that the tail reads and the partial state does not hold, by name (`carry.NAME`).
        late: the leaves of the state that the tail makes: those that a partial state lacks.
    """

    first: Graph
    main: Graph
    flush: Graph
    carry: Mapping[str, TensorType]
    late: tuple[str, ...]

    def map(self, function: Callable[[Graph], Graph]) -> "RotatedGraphs":
        """The three graphs through a pass, or a composition of some.

        Args:
            function: from a graph to one that computes the same; keeps the names of inputs and outputs.

        Raises:
            RotateError: a graph came back with other inputs or outputs.
        """
        first, main, flush = (_same_edges(function(g), g) for g in (self.first, self.main, self.flush))
        return RotatedGraphs(first, main, flush, self.carry, self.late)

    def as_text(self) -> str:
        """The three graphs, one after the other."""
        parts = {"first": self.first, "main": self.main, "flush": self.flush}
        return "\n\n".join(f"{name}:\n{graph.as_text()}" for name, graph in parts.items())

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        return f"RotatedGraphs(first={self.first!r}, main={self.main!r}, flush={self.flush!r})"


def _same_edges(after: Graph, before: Graph) -> Graph:
    for what, old, new in (("inputs", before.inputs, after.inputs), ("outputs", before.outputs, after.outputs)):
        if list(old) != list(new):
            raise RotateError(
                f"a pass over a rotated step changed the {what} from {list(old)} to {list(new)}: the three graphs hand "
                "each other values by these names, so a pass has to keep them."
            )
    return after
