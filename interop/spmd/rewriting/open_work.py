"""Runs the graphs of `Steps` one after the other, and keeps what is open between two of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from funpipe.graphs import Graph
from funpipe.interop.spmd.errors import SpmdRuntimeError
from funpipe.interop.spmd.rewriting.steps import Runnable, Steps
from funpipe.passes.rotation.graphs import CARRY


class OpenWork:
    """The steps of a graph with moves, and the work of the last one that waits for the next.

    Args:
        graph: the whole step; names the flat inputs and outputs.
        steps: what runs instead of it.
    """

    def __init__(self, graph: Graph, steps: Steps) -> None:
        self.graph, self.steps = graph, steps
        self._carry: dict[str, Any] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "OpenWork":
        if self.pending:
            raise SpmdRuntimeError(
                "a step with open work cannot be copied, since what is on its way arrives once: end with "
                "last_iter=True, or call flush(...), and copy it then."
            )
        return OpenWork(self.graph, self.steps)

    @property
    def pending(self) -> bool:
        """Whether there is open work."""
        return self._carry is not None

    @property
    def stale(self) -> tuple[int, ...]:
        """The positions of the outputs that open work will make."""
        return tuple(i for i, name in enumerate(self.graph.outputs) if name in self.steps.late) if self.pending else ()

    def step(self, flat: Sequence[Any], last: bool) -> list[Any]:
        """Runs a step, and the open work of the one before.

        Args:
            flat: the inputs of the graph; those that open work will make are not read.
            last: whether no work is left open; there is some.

        Returns:
            Its outputs; those that are still to be made are what they were.
        """
        values = self._values(flat)
        if last:
            return self._close(self.steps.cleanup, values)
        made = (self.steps.main if self.pending else self.steps.setup)(values)
        given = {_memory(value) for name, value in values.items() if self._is_given(name)} - {None}
        self._carry = {n: _own(value, given) for n, value in made.items() if n.startswith(CARRY)}
        return [self._now(name, made, values) for name in self.graph.outputs]

    def flush(self, flat: Sequence[Any]) -> list[Any]:
        """Does the open work.

        Args:
            flat: the inputs of the graph, of which only leaves of the state are read.

        Returns:
            The outputs of the graph that are leaves of the state; None for others.

        Raises:
            SpmdRuntimeError: there is none.
        """
        if not self.pending:
            raise SpmdRuntimeError("there is no open work to flush: run a step first, or look at `pending`.")
        return self._close(self.steps.flush, self._values(flat))

    def _close(self, graph: Runnable, values: Mapping[str, Any]) -> list[Any]:
        made = graph(values)
        self._carry = None
        return [made.get(name) for name in self.graph.outputs]

    def _values(self, flat: Sequence[Any]) -> dict[str, Any]:
        own = (name for name in self.graph.inputs if name not in self.graph.constants)
        return dict(zip(own, flat, strict=True)) | (self._carry or {})

    def _is_given(self, name: str) -> bool:
        """Whether an input is memory that whoever calls may overwrite before the next step."""
        return not name.startswith(CARRY) and name not in self.steps.late

    def _now(self, name: str, made: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        """An output; of one that is late, the newest value that is there."""
        if name in self.steps.late:
            return made.get(f"{CARRY}{name}", values[name])
        return made[name]


def _memory(value: Any) -> int | None:
    """Where a tensor lies; None for what takes no memory."""
    return (value.untyped_storage().data_ptr() or None) if isinstance(value, Tensor) else None


def _own(value: Any, given: set[int | None]) -> Any:
    """A value in memory of its own: whoever calls may write new values into what was passed."""
    return value.clone() if _memory(value) in given else value
