"""Makes a recorded tensor: the calls that it depends on, run for real, with random numbers from its name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._errors import TraceError
from funpipe.functional import random
from funpipe.functional.deferred.numbers import numbers
from funpipe.functional.deferred.recording import Call, Place, Record, with_each

Memory = dict[int, torch.UntypedStorage]

_UNWRITTEN = ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
"""Operators whose results may hold anything; here they are zeros, the same on every rank."""

_TOO_EARLY = (
    "what builds the module reads a random number in Python (.item(), .tolist(), if) while parameters have no values "
    "yet, and its name is not known then. Draw that number with Python's random or numpy, or build the module with "
    "values: fp.functionalize(module)."
)


@dataclass(frozen=True, eq=False)
class Replay:
    """A record with the names of the tensors that are wanted of it.

    Args:
        record: complete, or as far as it goes.
        leaves: where each named tensor lies, in the order of the module.
        key: of all random numbers; 0-dim int64.
    """

    record: Record
    leaves: Mapping[str, Place]
    key: Tensor

    def make(self, place: Place) -> Tensor:
        """The tensor of a place.

        Args:
            place: of anything that was recorded.

        Returns:
            On the device that it was meant for, with its strides.
        """
        memory: Memory = {}
        with torch.no_grad():
            for i in self._needed(place.storage):
                self._run(i, memory)
        return _at(place, memory)

    def _run(self, i: int, memory: Memory) -> None:
        call = self.record.calls[i]
        args, kwargs = with_each(lambda v: _at(v, memory) if isinstance(v, Place) else v, call.args, call.kwargs)
        out = self._draw(i, call, args, kwargs) if call.draws else call.func(*args, **kwargs)
        made = [t for t in optree.tree_leaves(out) if isinstance(t, Tensor)]
        for place, tensor in zip(call.gives, made, strict=True):
            if place.storage not in memory:
                memory[place.storage] = _laid_out(tensor, place, call).untyped_storage()

    def _draw(self, i: int, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if i not in self._owners:
            raise TraceError(_TOO_EARLY)
        name, count = self._owners[i]
        made = numbers(call.func, random.from_name(self.key, name), count, args, kwargs)
        if made is NotImplemented:
            raise TraceError(
                f"fp.init: {name!r} is initialised by {call.func}, which cannot be drawn from a key: initialise it "
                "with a function of torch.nn.init, or build the module with values: fp.functionalize(module)."
            )
        return made

    @cached_property
    def _owners(self) -> dict[int, tuple[str, int]]:
        """For each random call its leaf, and its number there: the leaf it writes to, else the first that reads it."""
        homes: dict[int, str] = {}
        for name, place in self.leaves.items():
            homes.setdefault(place.storage, name)
        owners: dict[int, str] = {}
        for name, place in self.leaves.items():
            for i in self._needed(place.storage):
                if self.record.calls[i].draws:
                    written = (homes[s] for s in sorted(self.record.calls[i].writes) if s in homes)
                    owners.setdefault(i, next(written, name))
        counts: dict[str, int] = {}
        numbered: dict[int, tuple[str, int]] = {}
        for i, name in sorted(owners.items()):
            numbered[i] = (name, counts.get(name, 0))
            counts[name] = counts.get(name, 0) + 1
        return numbered

    def _needed(self, storage: int) -> list[int]:
        """The calls that a storage's contents depend on, in order."""
        found: set[int] = set()
        seen, todo = {storage}, [storage]
        while todo:
            for i in self._writers.get(todo.pop(), ()):
                if i not in found:
                    found.add(i)
                    more = (self.record.calls[i].reads | self.record.calls[i].writes) - seen
                    seen |= more
                    todo += more
        return sorted(found)

    @cached_property
    def _writers(self) -> dict[int, list[int]]:
        """The calls that write to each storage."""
        writers: dict[int, list[int]] = {}
        for i, call in enumerate(self.record.calls):
            for storage in call.writes:
                writers.setdefault(storage, []).append(i)
        return writers


def _at(place: Place, memory: Memory) -> Tensor:
    """The tensor that lies at a place."""
    empty = torch.empty(0, dtype=place.dtype, device=place.device)
    return empty.set_(memory[place.storage], place.offset, place.size, place.stride)


def _laid_out(tensor: Tensor, place: Place, call: Call) -> Tensor:
    """A result with the strides that its stand-in had, in which places were noted."""
    if call.func.__name__.partition(".")[0] in _UNWRITTEN:
        tensor.zero_()
    if tensor.stride() == place.stride and tensor.storage_offset() == place.offset:
        return tensor
    other = torch.empty_strided(place.size, place.stride, dtype=place.dtype, device=place.device)
    return other.copy_(tensor)
