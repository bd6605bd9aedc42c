"""Outputs that a backward starts from, each with its gradient."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from funpipe.interop.pipelining import trees
from funpipe.interop.pipelining.errors import PipeRuntimeError

R = TypeVar("R")
Pairs = list[tuple[torch.Tensor, torch.Tensor | None]]


def paired(outputs: Any, gradients: Any) -> Pairs:
    """The tensors of a stage's output that have a backward, each with its gradient.

    Args:
        outputs: a tree of any structure.
        gradients: one for each leaf of `outputs`, or for each of its tensors; None: the outputs are losses. None among
            them: nothing reads that output.

    Raises:
        ValueError: another number of gradients than of outputs.
    """
    leaves, _ = trees.flatten(outputs)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if gradients is None:
        return [(tensor, None) for tensor in tensors if tensor.requires_grad]
    given, _ = trees.flatten(gradients)
    matching = leaves if len(given) == len(leaves) else tensors
    if len(given) != len(matching):
        raise ValueError(f"{len(given)} gradients for {len(tensors)} outputs")
    pairs = [(leaf, gradient) for leaf, gradient in zip(matching, given, strict=True) if gradient is not None]
    return [(leaf, gradient) for leaf, gradient in pairs if isinstance(leaf, torch.Tensor) and leaf.requires_grad]


def explained(run: Callable[[], R], what: str, outputs: Any, gradients: Any, inputs: Sequence[Any]) -> R:
    """What `run` returns; its error says which tensors the backward had.

    Raises:
        PipeRuntimeError: it raised.
    """
    try:
        return run()
    except Exception as error:
        raise PipeRuntimeError(
            f"Failed to run stage backward{what}: {error}\n"
            f"  Stage output: {shown(outputs)}\n  Output gradient: {shown(gradients)}\n  Input: {shown(inputs)}\n"
            "  Each gradient needs its output's shape, and a microbatch runs backward once"
        ) from error


def shown(tree: Any) -> Any:
    """A tree with its tensors as short text.

    Example:
        >>> shown((torch.ones(2, 3), 4))
        ('Tensor(torch.Size([2, 3]), grad=False, dtype=torch.float32)', 4)
    """
    leaves, structure = trees.flatten(tree)
    return trees.unflatten(structure, map(_shown, leaves))


def _shown(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return f"Tensor({leaf.shape}, grad={leaf.requires_grad}, dtype={leaf.dtype})"
