"""`Leaf`: a tensor of a training step's state, where it lies, and what the traced graph calls it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

Fresh = Mapping[Tensor, dict[str, Tensor]]
"""Optimizer state by parameter."""
PARAMS, BUFFERS, OPTIMIZER, GRADS = "state.params.", "state.buffers.", "state.optimizer.", "state.grads."


@dataclass(frozen=True, eq=False)
class Leaf:
    """A tensor of the state.

    Args:
        name: in the graph, `state.params.layers.0.weight`.
        tensor: where it lies; a distributed tensor where ranks have different rows.
        owner: what holds it: a module, or the optimizer's state of one parameter.
        key: under which name.
    """

    name: str
    tensor: Tensor
    owner: Any
    key: str

    @property
    def local(self) -> Tensor:
        """What this rank has of it, without history."""
        return local_of(self.tensor)

    def write(self, value: Tensor) -> None:
        """Makes it another value, in place.

        Args:
            value: of the same shape and dtype, unless it is a buffer.
        """
        own = self.local
        if own.shape == value.shape and own.dtype == value.dtype:
            own.copy_(value)
        else:
            setattr(self.owner, self.key, value)


def local_of(tensor: Tensor) -> Tensor:
    """The part of a distributed tensor that lies here, in the same memory; any other tensor itself.

    Args:
        tensor: any.
    """
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def parameters(model: nn.Module) -> list[Leaf]:
    """The parameters of a module, those under several names once."""
    return [Leaf(PARAMS + name, p, *_place(model, name)) for name, p in model.named_parameters()]


def buffers(model: nn.Module) -> list[Leaf]:
    """The buffers of a module, those under several names once."""
    return [Leaf(BUFFERS + name, b, *_place(model, name)) for name, b in model.named_buffers()]


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, key = name.rpartition(".")
    return model.get_submodule(path), key


def optimizer_state(optimizer: Optimizer | None, params: Sequence[Leaf], fresh: Fresh) -> list[Leaf]:
    """The state of the optimizer.

    Args:
        optimizer: of the step, if it has one.
        params: of the model.
        fresh: for parameters that the optimizer has no state of.
    """
    return list(_optimizer_state(optimizer, params, fresh)) if optimizer is not None else []


def _optimizer_state(optimizer: Optimizer, params: Sequence[Leaf], fresh: Fresh) -> Iterator[Leaf]:
    for param in params:
        known = optimizer.state[param.tensor] if param.tensor in optimizer.state else {}
        state = known or fresh.get(param.tensor, {})
        for key, value in state.items():
            if isinstance(value, Tensor):
                name = param.name.removeprefix(PARAMS)
                yield Leaf(f"{OPTIMIZER}{name}.{key}", value, state, key)


def gradients(params: list[Leaf]) -> list[Leaf]:
    """The gradients that parameters have at the moment."""
    found = [(p, p.tensor.grad) for p in params]
    return [Leaf(GRADS + p.name.removeprefix(PARAMS), g, p.tensor, "grad") for p, g in found if g is not None]


@torch.no_grad()
def write_all(pairs: Sequence[tuple[Leaf, Tensor]]) -> None:
    """Writes new values of leaves, none of which is lost before it is read.

    Args:
        pairs: leaves with their values, which may be other leaves.
    """
    memory = {_memory(leaf.local) for leaf, _ in pairs}
    changed = [(leaf, value) for leaf, value in pairs if not _is_same(leaf.local, value)]
    safe = [(leaf, value.clone() if _memory(value) in memory else value) for leaf, value in changed]
    for leaf, value in safe:
        leaf.write(value)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def like(tensor: Tensor, value: Tensor) -> Tensor:
    """A value distributed as another tensor is.

    Args:
        tensor: a tensor, or a distributed one.
        value: what this rank has of it.
    """
    if not isinstance(tensor, DTensor):
        return value
    return DTensor.from_local(
        value, tensor.device_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
