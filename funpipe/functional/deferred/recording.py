"""Records how tensors are made, without making them.

What builds them runs on stand-ins that have no memory, and each operator that writes to one is noted. Tensors are told
apart by where they lie, a place in a storage: so views, `tensor.data` and `nn.Parameter(tensor)` need no notes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optree
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from funpipe import _compat


@dataclass(frozen=True)
class Place:
    """Where a tensor lies.

    Args:
        storage: a number.
        size, stride, offset: in elements.
        dtype: of the elements.
        device: that the tensor is meant for.
    """

    storage: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Call:
    """An operator that was called.

    Args:
        func: the operator, or a function that writes to its first argument.
        args, kwargs: with places for tensors without memory; real ones are themselves.
        gives: the places of the tensors it returned, in order.
        writes: the storages that it wrote to, new ones included.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    gives: tuple[Place, ...]
    writes: frozenset[int]

    @property
    def reads(self) -> frozenset[int]:
        """The storages of its arguments."""
        given: Any = [*self.args, *self.kwargs.values()]
        leaves: list[Any] = optree.tree_leaves(given)
        return frozenset(leaf.storage for leaf in leaves if isinstance(leaf, Place))

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers."""
        return self.func is truncated_normal or torch.Tag.nondeterministic_seeded in getattr(self.func, "tags", ())


def truncated_normal(tensor: Tensor, mean: float, std: float, a: float, b: float) -> Tensor:
    """Stands for `torch.nn.init.trunc_normal_` in a record; whoever replays it draws the numbers."""
    raise NotImplementedError


@dataclass(eq=False)
class Record:
    """All calls so far.

    Args:
        value: gives a Python number that is read from a tensor while it records.
        calls: in order.
        storages: those seen, kept so that none is taken for another.
    """

    value: Callable[["Record", Place], Tensor]
    calls: list[Call] = field(default_factory=list)
    storages: dict[int, tuple[int, object]] = field(default_factory=dict)

    def place(self, tensor: Tensor) -> Place:
        """Where a stand-in lies."""
        return Place(
            self._number(tensor),
            tuple(tensor.shape),
            tuple(tensor.stride()),
            int(tensor.storage_offset()),
            tensor.dtype,
            tensor.device,
        )

    def note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, written: list[Tensor]) -> None:
        """Adds a call, unless all that it did is to give a view.

        Args:
            func: the operator.
            args, kwargs: it was given.
            out: it returned.
            written: arguments that it wrote to.
        """
        known = set(self.storages)
        given = with_each(self._held, args, kwargs)
        gives = [t for t in optree.tree_leaves(out) if isinstance(t, Tensor)]
        fresh = {self._number(t) for t in gives if id(t.untyped_storage()) not in known}
        writes = frozenset(fresh | {self._number(t) for t in written})
        if writes:
            self.calls.append(Call(func, *given, tuple(self.place(t) for t in gives), writes))

    def _held(self, value: Any) -> Any:
        return self.place(value) if isinstance(value, Tensor) and _compat.is_fake(value) else value

    def _number(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        return self.storages.setdefault(id(storage), (len(self.storages), storage))[0]

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operator on stand-ins, and notes it; one whose result depends on values gets them."""
        try:
            out = func(*args, **kwargs)
        except RuntimeError as error:
            if type(error).__name__ not in _NEEDS_VALUES:
                raise
            given, named = with_each(self._read, args, kwargs)
            with _compat.outside_modes():
                return func(*given, **named)
        self.note(func, args, kwargs, out, _written(func, args, kwargs))
        return out

    def _read(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not _compat.is_fake(value):
            return value
        place = self.place(value)
        with _compat.outside_modes():
            return self.value(self, place)

    def draw(self, tensor: Tensor, mean: float, std: float, a: float, b: float) -> Tensor:
        """Notes a truncated normal distribution."""
        self.note(truncated_normal, (tensor, mean, std, a, b), {}, tensor, [tensor])
        return tensor


_NEEDS_VALUES = ("DataDependentOutputException", "DynamicOutputShapeException")


def with_each(
    change: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with each leaf replaced by what a function makes of it."""
    return tuple(optree.tree_map(change, list(args))), {k: optree.tree_map(change, v) for k, v in kwargs.items()}  # type: ignore[arg-type]


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    arguments = func._schema.arguments
    given = {a.name: v for a, v in zip(arguments, args, strict=False)} | kwargs
    named: Any = [given.get(a.name) for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    return [t for t in optree.tree_leaves(named) if isinstance(t, Tensor)]


class _Reads(TorchFunctionMode):
    """Works out what Python takes of a stand-in all at once."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy):
            args = (self.record._read(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


@contextmanager
def recording(value: Callable[[Record, Place], Tensor]) -> Iterator[Record]:
    """While open, tensors that are made have no memory, and how is noted.

    Args:
        value: gives the tensor of a place, for numbers that Python reads.
    """
    record = Record(value)
    with (
        _compat.fake_mode(),
        _compat.seeing_operators(record.see),
        _compat.truncated_normals(record.draw),
        _Reads(record),
    ):
        yield record
