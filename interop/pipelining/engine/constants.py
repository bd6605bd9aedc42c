"""What is no tensor is part of a program: keys that tell one such thing from another, and from itself, changed."""

import pickle
import weakref
from types import NoneType
from typing import Any

import torch

_PLAIN = frozenset({bool, int, float, complex, str, bytes, NoneType, torch.dtype, torch.device, torch.Size})


class Same:
    """Equal to what was made of the same object alone, not of another one that came to lie at its address.

    Args:
        value: the object; it is not kept alive if it can be referred to weakly.
    """

    def __init__(self, value: Any) -> None:
        self._hash = id(value)
        try:
            self._ref: Any = weakref.ref(value)
        except TypeError:
            self._ref = lambda: value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same):
            return False
        mine = self._ref()
        return self is other or (mine is not None and mine is other._ref())

    def __hash__(self) -> int:
        return self._hash


def constant(value: Any) -> Any:
    """A key for something that is no tensor; objects count by what is in them.

    Args:
        value: anything.

    Example:
        >>> constant(1) == constant(1), constant(1) == constant(True), constant([1, 2]) == constant([1, 3])
        (True, False, False)
    """
    if type(value) in _PLAIN:
        return type(value), repr(value)
    if callable(value):
        return Same(value)
    try:
        return type(value), pickle.dumps(value)
    except Exception:  # an object's own methods run here, and may raise anything
        return Same(value)
