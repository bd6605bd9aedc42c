"""Arguments and results as lists of tensors: what a module takes and returns, apart from the numbers in it."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from funpipe import _compat
from funpipe._errors import TraceError

_FIXED = (
    *(type(None), bool, int, float, complex, str, bytes, slice, range, Enum, type),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size),
)
_CODE = (nn.Module, FunctionType, MethodType, BuiltinFunctionType)


@dataclass(frozen=True)
class Slot:
    """Where a tensor stood."""

    index: int

    def rebuilt(self, tensors: Sequence[Any]) -> Any:
        """The tensor."""
        return tensors[self.index]


@dataclass(frozen=True)
class Fixed:
    """Anything that holds no tensor."""

    value: Any

    def rebuilt(self, tensors: Sequence[Any]) -> Any:
        """The value itself."""
        return self.value


@dataclass(frozen=True)
class Container:
    """A container of a type, with what its children were taken from and how it is made again."""

    kind: type
    context: Any
    children: "tuple[Structure, ...]"

    def rebuilt(self, tensors: Sequence[Any]) -> Any:
        """A new container."""
        return _made(self.kind, self.context, [child.rebuilt(tensors) for child in self.children])


Structure = Slot | Fixed | Container


def pack(value: Any, code: bool = False) -> tuple[list[Tensor], Structure]:
    """Takes the tensors out of a value.

    Args:
        value: tensors, numbers, texts and the like, in lists, tuples, dicts, dataclasses, and containers that are
            registered with torch, one in another.
        code: whether modules and functions may be in it; they are kept as they are.

    Returns:
        The tensors, and what puts such tensors back: `structure.rebuilt(tensors)`. Structures of equal form are equal.

    Raises:
        TraceError: something else is in it; its type is named.

    Example:
        >>> tensors, structure = pack({"x": torch.ones(2), "scale": 3})
        >>> structure.rebuilt(["a tensor"])
        {'x': 'a tensor', 'scale': 3}
    """
    tensors: list[Tensor] = []
    return tensors, _structure(value, tensors, (*_FIXED, *_CODE) if code else _FIXED)


def _structure(value: Any, tensors: list[Tensor], fixed: tuple[type, ...]) -> Structure:
    if isinstance(value, Tensor):
        tensors.append(value)
        return Slot(len(tensors) - 1)
    if isinstance(value, fixed):
        return Fixed(value)
    context, children = _taken_apart(value)
    return Container(type(value), context, tuple(_structure(child, tensors, fixed) for child in children))


def _taken_apart(value: Any) -> tuple[Any, list[Any]]:
    kind = type(value)
    registered = _registered(kind)
    if registered is not None:
        children, context = registered[0](value)
        return context, list(children)
    if kind in (dict, OrderedDict):
        return tuple(value), list(value.values())
    if isinstance(value, list | tuple):
        return None, list(value)
    if is_dataclass(value):
        names = tuple(f.name for f in fields(value))
        return names, [getattr(value, name) for name in names]
    raise TraceError(f"{kind.__name__} is neither a tensor nor a container of tensors that can be taken apart")


def _made(kind: type, context: Any, children: list[Any]) -> Any:
    registered = _registered(kind)
    if registered is not None:
        return registered[1](children, context)
    if kind in (dict, OrderedDict):
        return kind(zip(context, children, strict=True))
    if issubclass(kind, list | tuple):
        return kind(*children) if hasattr(kind, "_fields") else kind(children)
    made = object.__new__(kind)
    for name, child in zip(context, children, strict=True):
        object.__setattr__(made, name, child)  # a frozen one takes it no other way
    return made


def _registered(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any]] | None:
    """How a container that users have registered with torch is taken apart and made; asking torch takes a while."""
    return None if kind in _BUILT_IN else _compat.torch_containers().get(kind)


_BUILT_IN = (dict, OrderedDict, list, tuple)
