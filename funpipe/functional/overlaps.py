"""Tensors of a module that share memory without being one: a pure function cannot keep them equal."""

from collections.abc import Iterable

import torch
from torch import Tensor

from funpipe import _compat
from funpipe._errors import TreeError

_Span = tuple[int, int, bool]
"""The first byte of a tensor, that of its last element, and whether it holds all between."""


def check_apart(named: Iterable[tuple[str, Tensor]]) -> None:
    """Raises where a trained parameter lies in the memory of another parameter or buffer.

    In the module an update of one changes the other; as leaves of their own they would drift apart. The same tensor
    under two names is none: it is one leaf.

    Args:
        named: the tensors of a module, each once.

    Raises:
        TreeError: both are named.

    Example:
        >>> check_apart([("a", torch.ones(2)), ("b", torch.ones(2))])
    """
    by_memory: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in named:
        if _has_memory(tensor):
            by_memory.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))
    for sharing in by_memory.values():
        for at, (name, tensor) in enumerate(sharing):
            for before, other in sharing[:at]:
                if (tensor.requires_grad or other.requires_grad) and _overlap(_span(tensor), _span(other)):
                    raise TreeError(_text(before, name))


def _has_memory(tensor: Tensor) -> bool:
    real = tensor.device.type != "meta" and not _compat.is_fake(tensor)
    return real and tensor.layout == torch.strided and tensor.numel() > 0


def _span(tensor: Tensor) -> _Span:
    extent = sum((count - 1) * stride for count, stride in zip(tensor.shape, tensor.stride(), strict=True))
    size = tensor.element_size()
    first = int(tensor.storage_offset()) * size
    return first, first + extent * size, tensor.numel() == extent + 1


def _overlap(one: _Span, other: _Span) -> bool:
    """Whether one of two holds the first or the last element of the other for certain."""
    return any(a[2] and (a[0] <= b[0] <= a[1] or a[0] <= b[1] <= a[1]) for a, b in ((one, other), (other, one)))


def _text(one: str, other: str) -> str:
    return (
        f"module: {one!r} and {other!r} are two tensors in the same memory, so that an update of one changes the "
        "other; as a pure function they would be two leaves and drift apart. Tie them by making them one "
        "(module.b.weight = module.a.weight, not .data), or clone one of them."
    )
