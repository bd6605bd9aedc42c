"""The inputs of a graph, checked and laid out as it was traced with them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import BatchError, FunpipeTypeError, TreeError
from funpipe._typing import TensorType
from funpipe.functional.tree import place, type_text
from funpipe.graphs.graph import Graph
from funpipe.graphs.overwritten import overwritten
from funpipe.graphs.step import AXES
from funpipe.runtime.consumed import require_usable

CARRY = "carry."
"""Values that one graph of a rotated step hands to the next: perhaps still on their way, so taken as they are."""


class GraphInputs:
    """What a graph takes, in its order.

    Args:
        graph: the graph.
        places: this rank's place along each axis.
        device: of the step; what is typed for another kind of device goes to the current one of that kind.
    """

    def __init__(self, graph: Graph, places: Mapping[str, int], device: torch.device) -> None:
        self.fixed = {n: v.to(_where(graph.inputs[n], device)) for n, v in graph.constants.items() if n in graph.inputs}
        known = ((name, axis, graph.inputs[name]) for name, axis in AXES.items() if name in graph.inputs)
        self.fixed |= {name: torch.tensor(places[axis], device=_where(kind, device)) for name, axis, kind in known}
        self.types = dict(graph.inputs)
        self.given = {name: kind for name, kind in graph.inputs.items() if name not in self.fixed}
        self.overwritten = overwritten(graph).intersection(self.given)

    @property
    def consumes(self) -> bool:
        """Whether the graph overwrites what it is given."""
        return bool(self.overwritten)

    def check(self, values: Mapping[str, Any]) -> None:
        """Raises unless values can be passed.

        Args:
            values: by the names of inputs; more than the graph takes is no error.

        Raises:
            TreeError, BatchError: a leaf of the state, or of the batch, has another shape, dtype or device.
            FunpipeTypeError: a leaf is no tensor.
            StateError: a leaf was consumed.
        """
        for name, kind in self.given.items():
            value = values[name]
            if not isinstance(value, Tensor) or not _fits(value, kind):
                raise _wrong(name, value, kind)
        require_usable(values)

    def ordered(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """The inputs in order; one with other strides is copied, and so is one whose memory another one shares.

        Args:
            values: checked.
        """
        taken = [self.fixed[n] if n in self.fixed else _laid_out(n, values[n], k) for n, k in self.types.items()]
        return self._apart(taken) if self.overwritten else taken

    def _apart(self, taken: list[Tensor]) -> list[Tensor]:
        """Nothing that is overwritten shares memory with another input, as a tied leaf would."""
        names = list(self.types)
        end, last = 0, 0
        for at, i in sorted((value.data_ptr(), i) for i, value in enumerate(taken) if value.numel()):
            if at < end and not self.overwritten.isdisjoint((names[i], names[last])):
                # What is on its way is known by its identity, and a constant is read again in the next step.
                copied = last if names[i].startswith(CARRY) or names[i] in self.fixed else i
                taken[copied] = taken[copied].clone()
            if at + taken[i].nbytes > end:
                end, last = at + taken[i].nbytes, i
        return taken


def _where(kind: TensorType, device: torch.device) -> torch.device:
    """The step's own device for what is typed for its kind."""
    return device if device.type == kind.device else torch.device(kind.device)


def _fits(value: Tensor, kind: TensorType) -> bool:
    return value.shape == kind.shape and value.dtype == kind.dtype and value.device.type == kind.device


def _laid_out(name: str, value: Tensor, kind: TensorType) -> Tensor:
    if name.startswith(CARRY):
        return value
    value = value.detach() if value.requires_grad else value
    if value.stride() == kind.stride:
        return value
    return torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device=value.device).copy_(value)


def _wrong(name: str, value: Any, kind: TensorType) -> Exception:
    what, _, leaf = name.partition(".")
    if not isinstance(value, Tensor):
        return FunpipeTypeError(f"{what}: {place(leaf)} is of type {type_text(value)}; pass a tensor, {kind}.")
    found, wanted = type_text(value), str(kind)
    if found == wanted:
        return TreeError(
            f"{what}: {place(leaf)} is on {value.device}, but the step was traced on {kind.device}: move it there with "
            f"leaf.to({kind.device!r})."
        )
    error = BatchError if what == "batch" else TreeError
    return error(
        f"{what}: {place(leaf)} is {found}, but the step was traced with {wanted}: pass a leaf of that shape and "
        "dtype, or trace the step again for this one with fp.trace_step(step, state, batch)."
    )
