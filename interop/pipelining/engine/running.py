"""Runs a planned step: what goes into its program, and what comes out of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from funpipe.backends import Executable
from funpipe.interop.pipelining.engine.function import LOSS
from funpipe.interop.pipelining.engine.hooks import accumulate, has_hooks
from funpipe.interop.pipelining.engine.inputs import Own
from funpipe.interop.pipelining.engine.planning import Planned

State = dict[str, Tensor]


Batch = Callable[[str], Tensor]
"""Gives the input of a name, `batch.STAGE.NAME@MICROBATCH`."""


@dataclass(frozen=True, eq=False)
class Ready:
    """A step that can run.

    Args:
        planned: its programs.
        executable: this rank's.
        rank: the rank.
    """

    planned: Planned
    executable: Executable
    rank: int

    @cached_property
    def inputs(self) -> tuple[tuple[str, str, str], ...]:
        """The name of each input of the program, its kind, and what is left of the name."""
        names = self.planned.programs.programs[self.rank].inputs
        return tuple((name, name.partition(".")[0], name.partition(".")[2]) for name in names)

    def run(self, held: Mapping[str, Tensor], batch: Batch, state: State) -> State:
        """What the program returns.

        Args:
            held: parameters and buffers by stage and name.
            batch: gives the other inputs.
            state: the optimizer's, if the step has one; and the count of steps.
        """
        return self.executable([self._input(item, held, batch, state) for item in self.inputs])

    def _input(self, item: tuple[str, str, str], held: Mapping[str, Tensor], batch: Batch, state: State) -> Tensor:
        name, kind, rest = item
        if kind == "batch":
            return batch(name).detach().contiguous()
        if kind in ("leaf", "buffer"):
            return held[rest].detach().contiguous()
        return state[name] if name in state else self.planned.consts[rest].detach().contiguous()


def batch_of(owns: Mapping[int, Own]) -> Batch:
    """Finds the inputs in what a rank gives to its stages.

    Args:
        owns: by stage.
    """

    def find(name: str) -> Tensor:
        index, _, leaf = name.removeprefix("batch.").partition(".")
        leaf, _, microbatch = leaf.rpartition("@")
        return owns[int(index)].tensors[int(microbatch)][leaf]

    return find


def keep_buffers(found: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> None:
    """Writes the new values of buffers into the modules.

    Args:
        found: what the program returned.
        held: parameters and buffers by stage and name.
    """
    for name, value in found.items():
        if name.startswith("buffer.") and (old := held[name.removeprefix("buffer.")]).data_ptr() != value.data_ptr():
            old.copy_(value)


def gradients_of(ready: Ready, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of each parameter, by stage and name: a view of what the program returned."""
    layout = ready.planned.programs.layout
    made = [(b, found[f"grad.{b.name}"]) for b in layout.buckets if f"grad.{b.name}" in found]
    return {slot.leaf: slot.view(flat) for b, flat in made for slot in b.slots}


def add_gradients(found: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> None:
    """Adds gradients to `.grad`.

    Args:
        found: by stage and name.
        held: parameters and buffers by stage and name.
    """
    for name, gradient in found.items():
        param = held[name]
        if has_hooks(param):
            accumulate(param, gradient)
        elif param.grad is None:
            param.grad = _laid_out_as(param, gradient)
        else:
            param.grad.add_(gradient)


def _laid_out_as(param: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with the parameter's strides, which fused optimizers rely on."""
    if param.stride() == gradient.stride():
        return gradient
    return torch.empty_like(param, requires_grad=False).copy_(gradient)


def losses(found: Mapping[str, Tensor], last: int, count: int) -> list[Tensor]:
    """The loss of every microbatch; none on ranks that have not the last stage."""
    name = f"{last}.{LOSS}"
    return [found[f"{name}@{i}"] for i in range(count)] if f"{name}@0" in found else []


def outputs(ready: Ready, found: Mapping[str, Tensor], last: int, count: int) -> list[Any] | None:
    """What the last stage returned for every microbatch; None on other ranks."""
    shape = ready.planned.output
    names = shape.outputs.names
    if any(f"{last}.{n}@0" not in found for n in names):
        return None
    made = [shape.outputs.fill({n: found[f"{last}.{n}@{i}"] for n in names}) for i in range(count)]
    return [one[0] if len(one) == 1 else one for one in made]


def give_back(found: Mapping[str, Tensor], owns: Mapping[int, Own]) -> None:
    """Adds the gradients of arguments that want them to their `.grad`, or hands them to what they were made of.

    Args:
        found: what the program returned.
        owns: what this rank gave.
    """
    pairs = [
        (tensor, found[f"{index}.gradient.{name}@{i}"])
        for index, own in owns.items()
        for i, tensors in enumerate(own.tensors)
        for name, tensor in tensors.items()
        if tensor.requires_grad and f"{index}.gradient.{name}@{i}" in found
    ]
    if pairs:
        torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
