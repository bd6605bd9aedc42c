"""Which passes have been applied to a graph module: noted on the module, so that two do not disturb each other."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

Function = Callable[..., Any]

_ENTRY = "applied_passes"
"""The entry of a graph module's `meta` that holds when passes were applied to it, and their contracts, in order."""


@dataclass(frozen=True)
class Contract:
    """What a pass asks of the passes applied before it.

    Args:
        function: the pass.
        prerequisites: must have been applied.
        apply_after: if these are applied at all, then before it.
    """

    function: Function
    prerequisites: frozenset[Function] = frozenset()
    apply_after: frozenset[Function] = frozenset()


class Records:
    """What was applied to which graph module; iterates over the names of all passes applied to any that is alive.

    Example:
        >>> from torch import fx
        >>> one, other = fx.symbolic_trace(lambda x: x), fx.symbolic_trace(lambda x: x)
        >>> records = Records()
        >>> records.note(one, Contract(key))
        >>> len(records.of(one)), len(records.of(other)), sorted(records)
        (1, 0, ['funpipe.interop.spmd.rewriting.records.key'])
        >>> records.clear()
        >>> records.of(one)
        ()
    """

    def __init__(self) -> None:
        self._modules: WeakSet[Any] = WeakSet()
        self._epoch = 0

    def of(self, gm: Any) -> tuple[Contract, ...]:
        """The contracts of the passes applied to a module, or to the one that it is a copy of, in order."""
        epoch, contracts = _place(gm).get(_ENTRY, (self._epoch, ()))
        return contracts if epoch == self._epoch else ()

    def note(self, gm: Any, *contracts: Contract) -> None:
        """Adds passes to those applied to a module."""
        _place(gm)[_ENTRY] = (self._epoch, (*self.of(gm), *contracts))
        self._modules.add(gm)

    def clear(self) -> None:
        """Forgets what was applied, for every module."""
        self._epoch += 1
        self._modules.clear()

    def __iter__(self) -> Iterator[str]:
        return iter({key(contract.function) for gm in self._modules for contract in self.of(gm)})

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __len__(self) -> int:
        return len(set(self))


def _place(gm: Any) -> dict[str, Any]:
    """Where a module keeps notes: what copies of it keep, too."""
    return vars(gm).get("meta", vars(gm))


APPLIED = Records()
"""Of this process; `clear()` has every graph module begin anew."""


def key(function: Function) -> str:
    """How messages name a pass.

    Example:
        >>> import inspect
        >>> key(inspect.unwrap)
        'inspect.unwrap'
    """
    return f"{function.__module__}.{function.__name__}"


def keys(functions: Iterable[Function]) -> set[str]:
    """The names of several passes."""
    return {key(function) for function in functions}
