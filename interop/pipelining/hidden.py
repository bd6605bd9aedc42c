"""Tensors inside of things that are no trees: nothing cuts them, and a compiled step would keep those it saw."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def holds_tensors(leaf: Any) -> bool:
    """Whether something that is no tensor has some inside, where no tree sees them.

    Args:
        leaf: A leaf of a tree.

    Returns:
        True for an object with a tensor among its attributes or its items; these are not looked into.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> holds_tensors(SimpleNamespace(x=torch.ones(1))), holds_tensors("x"), holds_tensors(torch.ones(1))
        (True, False, False)
    """
    if isinstance(leaf, Tensor | type):
        return False
    return any(isinstance(inside, Tensor) for inside in (*_attributes(leaf), *_items(leaf)))


def _attributes(leaf: Any) -> list[Any]:
    slots = [getattr(kind, "__slots__", ()) for kind in type(leaf).__mro__]
    names = [name for found in slots for name in ([found] if isinstance(found, str) else found)]
    return [*getattr(leaf, "__dict__", {}).values(), *(getattr(leaf, name, None) for name in names)]


def _items(leaf: Any) -> list[Any]:
    if isinstance(leaf, Mapping):
        return list(leaf.values())
    return list(leaf) if isinstance(leaf, tuple | list | set | frozenset) else []
