"""The operators that a run of a function calls, in a form that two runs can be compared in."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from funpipe import _compat

_SMALL = 64
"""Real tensors of at most so many elements are compared by value."""

_PLAIN = (bool, int, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)

Entry = tuple[Any, ...]


class Called:
    """What is called: the operators, with plain arguments as they are and tensors numbered as they come.

    Args:
        leaves: the tensors that the function is given.

    Attributes:
        log: the operators.
        unknown: the tensors without values that the last operator was given and that are not of this run.
    """

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self.log: list[Entry] = []
        self.unknown: list[Tensor] = []
        self._numbers: dict[int, int] = {}
        self._varies: set[int] = set()
        self._held: list[Tensor] = []  # as long as a tensor is held, its id is its own
        for leaf in leaves:
            self._number(leaf)
            self._varies.add(id(leaf))

    def add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry:
        """Notes a call."""
        self.unknown.clear()
        entry = (func, *map(self._shown, args), *((k, self._shown(v)) for k, v in kwargs.items()))
        self.log.append(entry)
        return entry

    def returns(self, found: Any, given: tuple[Any, ...]) -> None:
        """Notes what a call returned, and of what it made it."""
        varies = any(self.varies(t) for t in tensors(given))
        for tensor in tensors(found):
            self._number(tensor)
            if varies:
                self._varies.add(id(tensor))

    def varies(self, tensor: Tensor) -> bool:
        """Whether a tensor is a leaf, or was computed from one in this run."""
        return id(tensor) in self._varies

    def _number(self, tensor: Tensor) -> int:
        self._held.append(tensor)
        return self._numbers.setdefault(id(tensor), len(self._numbers))

    def _shown(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, list | tuple):
            return tuple(map(self._shown, value))
        if isinstance(value, _PLAIN):
            return value
        return repr(value) if isinstance(value, float | complex) else type(value).__name__

    def _tensor(self, tensor: Tensor) -> Any:
        if id(tensor) in self._numbers:
            return _Numbered(self._numbers[id(tensor)])
        if not _compat.is_fake(tensor):
            return ("a tensor", tuple(tensor.shape), tensor.dtype, _values(tensor))
        self.unknown.append(tensor)
        return _Numbered(self._number(tensor))


class _Numbered(int):
    """The number of a tensor."""

    def __repr__(self) -> str:
        return "one tensor"


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def difference_text(one: Entry, other: Entry) -> str:
    """What two runs do at the same place.

    Args:
        one, other: calls that differ.

    Example:
        >>> difference_text(("add", 3), ("add", 4))
        'add is given 3 once and 4 the next time'
    """
    if one[0] != other[0] or len(one) != len(other):
        return f"{one[0]} is called once and {other[0]} the next time"
    pairs = [(a, b) for a, b in zip(_flat(one), _flat(other), strict=False) if a != b]
    if not pairs or isinstance(pairs[0][0], _Numbered):
        return f"{other[0]} is given one tensor once and another the next time"
    return f"{other[0]} is given {pairs[0][0]} once and {pairs[0][1]} the next time"


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _values(tensor: Tensor) -> str | None:
    if tensor.numel() > _SMALL or tensor.device.type == "meta":
        return None
    with _compat.outside_modes():
        return repr(tensor.detach().tolist())
