"""Which of the traces of a step holds for a batch: those of its shapes whose guards have the values that they had.

A trace whose loss function read values in Python holds for these values alone. They are read again from every batch, in
each microbatch, on every rank: a rank knows its replica's whole batch. Where nothing is read, nothing is paid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from funpipe._errors import BatchError, TraceError
from funpipe.functional.deferred import is_deferred, made
from funpipe.functional.tree import place
from funpipe.runtime.inputs import BatchInputs, Seen
from funpipe.tracing.guards import Guard, Key, is_kept
from funpipe.tracing.traced import Traced

Named = Mapping[str, Tensor]

_KEPT = 64
"""How many traces of one kind of batch are remembered; more means that a value is another one in every batch."""


@dataclass(frozen=True)
class Choice:
    """What was found for a batch.

    Args:
        key: of the trace that holds; None where there is none for what was read.
        seen: the values that were read.
    """

    key: Any
    seen: tuple[Seen, ...] = ()


@dataclass
class Guarded:
    """The traces of a step.

    Args:
        traces: the guards of each, by the key of the batches that it is for.
        first: the key of the trace that `init` made.
        buffers: those that no step changes, as they were given to `init`.
    """

    traces: dict[Any, list[tuple[Guard, ...]]] = field(default_factory=dict)
    first: Any = None
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def start(self, inputs: BatchInputs, guards: Sequence[Guard], count: int) -> Choice:
        """Notes the trace that `init` made; as `add`."""
        choice = self.add(inputs, guards, count)
        self.first = choice.key
        return choice

    def choose(self, inputs: BatchInputs, count: int, values: Named | None = None) -> Choice:
        """The trace for a batch.

        Args:
            inputs: the batch.
            count: of its microbatches.
            values: of the state, by the names that programs use; None: buffers are as they were given to `init`.

        Raises:
            BatchError: the microbatches disagree on a value that is read.
        """
        known = self.traces.get(inputs.key)
        if known is None:
            return Choice(inputs.key)
        if known == [()]:  # nothing is read
            return Choice(inputs.key)
        reading = _Reading(inputs, count, self.known_buffers(values))
        holding = next((guards for guards in known if reading.hold(guards)), None)
        return Choice(None if holding is None else _key(inputs, holding), tuple(reading.seen.values()))

    def add(self, inputs: BatchInputs, guards: Sequence[Guard], count: int, values: Named | None = None) -> Choice:
        """Notes a new trace.

        Args:
            inputs: the batch that it was made for.
            guards: of the trace.
            count: of the microbatches.
            values: as for `choose`.

        Raises:
            BatchError: the microbatches disagree on a value that is read.
        """
        reading = _Reading(inputs, count, self.known_buffers(values))
        reading.hold(guards)  # raises; the first microbatch, from which it was traced, holds by itself
        known = self.traces.setdefault(inputs.key, [])
        key = _key(inputs, guards)
        if all(_key(inputs, other) != key for other in known):
            known.append(tuple(guards))
            del known[:-_KEPT]
        return Choice(key, tuple(reading.seen.values()))

    def known_buffers(self, values: Named | None) -> dict[str, Tensor]:
        """The buffers that may be read in Python: those of the state that this rank has, others as `init` got them."""
        held = values or {}
        return {n: held.get(f"buffer.{n}", tensor) for n, tensor in self.buffers.items()}


def unchanged(buffers: Named, traced: Traced) -> dict[str, Tensor]:
    """The buffers that a step leaves as they are.

    Args:
        buffers: by name; not copied.
        traced: the step.
    """
    kept = {n: b for n, b in buffers.items() if is_kept(n, traced.outputs)}
    return {n: b if is_deferred(b) else b.detach() for n, b in kept.items()}


def require_unguarded(traced: Traced) -> None:
    """Raises where a step holds for some values of a batch alone: as a graph nothing would check them.

    Args:
        traced: the step.

    Raises:
        TraceError: the loss function reads a value, or the batch holds one that is no tensor.
    """
    for guard in traced.guards:
        raise TraceError(
            f"the loss function reads {guard.value!r} in Python at {guard.source}: use torch.where or a mask there, "
            "for a graph of this step would go on with that value whatever the batch is. Calling the step checks it."
        )
    for name, value in traced.fixed.items():
        raise TraceError(
            f"batch: {place(name)} is {value}, and a graph of this step would go on with that value whatever the batch "
            "is: make it a tensor, or close over it."
        )


def require_same_leaves(first: Traced, again: Traced) -> None:
    """Raises unless two traces give gradients of the same parameters: an optimizer has a place for these alone.

    Args:
        first: the trace that `init` made.
        again: of another batch.

    Raises:
        TraceError: a parameter is used in one of them alone; it is named.
    """
    for name in sorted(first.gradients.keys() ^ again.gradients.keys()):
        now, before = ("has no", "had one") if name in first.gradients else ("has a", "had none")
        read = "".join(f" The function reads {guard.value!r} at {guard.source}." for guard in again.guards)
        raise TraceError(
            f"the parameter {name!r} {now} gradient in the step for this batch, and {before} in that of the batch "
            f"given to init.{read} Use the same parameters for all batches (add 0 * x.sum() for an unused one; its "
            "update then is that of a zero gradient), or make a step for each kind of batch."
        )


@dataclass
class _Reading:
    """Reads a batch, each value once."""

    inputs: BatchInputs
    count: int
    buffers: Mapping[str, Tensor]
    seen: dict[str, Seen] = field(default_factory=dict)

    def hold(self, guards: Sequence[Guard]) -> bool:
        """Whether all values are as they were; reads no further than the first that is not."""
        return all(self._value(guard) == repr(guard.value) for guard in guards)

    def _value(self, guard: Guard) -> str:
        if guard.text not in self.seen:
            found = [repr(guard.read(self._microbatch(guard, i))) for i in range(self.count)]
            if len(set(found)) > 1:
                raise BatchError(_disagree_text(guard, found))
            self.seen[guard.text] = Seen(guard.text, found[0], guard.source)
        return self.seen[guard.text].value

    def _microbatch(self, guard: Guard, index: int) -> dict[Key, Tensor]:
        return {leaf: self._leaf(*leaf, index) for leaf in guard.leaves}

    def _leaf(self, kind: str, name: str, index: int) -> Tensor:
        if kind == "buffer":
            return made(self.buffers[name])
        leaf, dim = self.inputs.leaves[name], self.inputs.dims[name]
        if dim is None:
            return leaf
        size = leaf.shape[dim] // self.count
        return leaf.narrow(dim, index * size, size)


def _key(inputs: BatchInputs, guards: Sequence[Guard]) -> Any:
    return (inputs.key, tuple((g.text, repr(g.value)) for g in guards)) if guards else inputs.key


def _disagree_text(guard: Guard, found: Sequence[str]) -> str:
    values = ", ".join(f"{value} in microbatch {i}" for i, value in enumerate(found))
    return (
        f"batch: the loss function reads a tensor's value in Python at {guard.source}, and the microbatches of this "
        f"batch disagree on it: {values}. All microbatches of a step run one graph: use torch.where or a mask there, "
        "order the rows so that all microbatches agree, or use num_microbatches=1."
    )
