"""`Arguments`: one call taken apart into the model, its optimizer, tensors, and what is the same in every call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from funpipe import TensorType
from funpipe.interop.pipelining.engine.constants import constant
from funpipe.interop.pipelining.hidden import holds_tensors
from funpipe.interop.pipelining.trees import flatten, unflatten
from funpipe.interop.spmd.errors import SpmdAssertionError, SpmdTypeError


@dataclass(frozen=True)
class Hole:
    """Where something belongs that differs from call to call.

    Args:
        kind: "model", "optimizer" or "tensor".
        index: of the tensor.
    """

    kind: str
    index: int = 0


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of one call.

    Args:
        model: the module among them.
        optimizer: the optimizer among them, if there is one.
        tensors: the tensors among them, in tree order.
        structure: of the tree of positional and keyword arguments.
        leaves: in its order; a `Hole` for the model, the optimizer and each tensor, anything else as it was.
    """

    model: nn.Module
    optimizer: Optimizer | None
    tensors: tuple[Tensor, ...]
    structure: Any
    leaves: tuple[Any, ...]

    @staticmethod
    def of(args: Sequence[Any], kwargs: dict[str, Any]) -> "Arguments":
        """Takes a call apart.

        Raises:
            SpmdAssertionError: there is no module among them, or more than one module or optimizer.
            SpmdTypeError: one of them holds state that no graph can have, or wants a gradient.
        """
        found, structure = flatten((list(args), kwargs))
        models = list(dict.fromkeys(leaf for leaf in found if isinstance(leaf, nn.Module)))
        optimizers = list(dict.fromkeys(leaf for leaf in found if isinstance(leaf, Optimizer)))
        if len(models) > 1:
            raise SpmdAssertionError(
                f"Only support single nn.Module for now: the arguments have {len(models)} "
                f"({', '.join(type(m).__name__ for m in models)}); make the others submodules of the first."
            )
        if len(optimizers) > 1:
            raise SpmdAssertionError(
                f"Only support single Optimizer for now: the arguments have {len(optimizers)}; give one several "
                "parameter groups instead."
            )
        if not models:
            raise SpmdAssertionError(
                "Couldn't find nn.Module instances from the arguments. Pass the model to the step as an argument."
            )
        if isinstance(models[0], DistributedDataParallel):
            raise SpmdTypeError(
                "DistributedDataParallel reduces gradients itself, and a compiled step would again: pass model.module."
            )
        tensors = tuple(leaf for leaf in found if isinstance(leaf, Tensor))
        if any(x.requires_grad for x in tensors):
            raise SpmdTypeError(
                "an argument requires a gradient, and a compiled step gives none to its arguments: pass x.detach(), or "
                "make it a parameter of the model."
            )
        leaves = _with_holes(found)
        return Arguments(models[0], optimizers[0] if optimizers else None, tensors, structure, leaves)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal where calls differ in the model, the optimizer and the values of tensors alone."""
        kept = [leaf if isinstance(leaf, Hole) else constant(leaf) for leaf in self.leaves]
        return (self.structure, *kept, *[(TensorType.of(t), t.device, t.requires_grad) for t in self.tensors])

    def filled(self, tensors: Sequence[Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """The positional and keyword arguments with other tensors.

        Args:
            tensors: as many as there are.
        """
        given = {"model": [self.model], "optimizer": [self.optimizer], "tensor": tensors}
        leaves = [given[leaf.kind][leaf.index] if isinstance(leaf, Hole) else leaf for leaf in self.leaves]
        return unflatten(self.structure, leaves)


def _with_holes(found: Sequence[Any]) -> tuple[Any, ...]:
    leaves, count = [], 0
    for leaf in found:
        if isinstance(leaf, Tensor):
            leaves.append(Hole("tensor", count))
            count += 1
        elif isinstance(leaf, nn.Module | Optimizer):
            leaves.append(Hole("model" if isinstance(leaf, nn.Module) else "optimizer"))
        else:
            leaves.append(_plain(leaf))
    return tuple(leaves)


def _plain(leaf: Any) -> Any:
    if isinstance(leaf, torch.amp.GradScaler):
        raise SpmdTypeError(
            "a GradScaler decides by the values of gradients whether a step is taken, and a graph has one course: "
            "use bfloat16, which needs no scaling."
        )
    if isinstance(leaf, LRScheduler):
        raise SpmdTypeError(
            f"{type(leaf).__name__} is no part of a step: call its step() after it; the learning rate is read from "
            "the optimizer at every call."
        )
    if holds_tensors(leaf):
        raise SpmdTypeError(
            f"an argument holds a {type(leaf).__name__} with tensors inside, which a compiled step would keep as they "
            "are now: pass the tensors themselves, or register the type with torch.export.register_dataclass."
        )
    return leaf
