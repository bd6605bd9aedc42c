"""`Marks`: the attributes of objects as they were; a program is traced again where one of them is another now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from funpipe.interop.pipelining.engine.constants import Same, constant

_OF_MODULES = frozenset(nn.Module().__dict__)
"""What every module has: its mode is asked for at each call; what it contains and its hooks are looked into."""

_INSIDE = tuple(sorted(name for name in _OF_MODULES if isinstance(nn.Module().__dict__[name], dict)))

_LEAVES = ("_parameters", "_buffers")
"""These are inputs of a program, which knows their types alone."""


_NOTHING = object()


@dataclass(frozen=True, eq=False)
class Marks:
    """Entries of dicts, and the dicts' lengths, as they were.

    Args:
        entries: a dict, a name in it, and what was there.
        lengths: a dict and its length.
        key: equal for objects whose attributes are equal.
    """

    entries: Sequence[tuple[dict[Any, Any], Any, Any]]
    lengths: Sequence[tuple[dict[Any, Any], int]]
    key: tuple[Any, ...]

    def changed(self) -> bool:
        """Whether an entry is another one, was added or is gone."""
        return any(where.get(name) is not value for where, name, value in self.entries) or any(
            len(where) != length for where, length in self.lengths
        )

    def take_back(self) -> None:
        """Puts tensors that tracing kept in attributes back to what was there: they have no values."""
        known = {(id(where), name): value for where, name, value in self.entries}
        for where in [where for where, _ in self.lengths]:
            found = [(name, value) for name, value in where.items() if isinstance(value, Tensor)]
            for name, value in found:
                old = known.get((id(where), name), _NOTHING)
                if old is _NOTHING:
                    del where[name]
                elif old is not value:
                    where[name] = old


def marks_of(parts: Sequence[nn.Module], others: Sequence[Any] = ()) -> Marks:
    """Marks of the attributes that objects have now; lists and dicts count as the objects that they are.

    Args:
        parts: modules whose parameters and buffers are inputs of programs.
        others: further objects; tensors in them are constants of programs.

    Example:
        >>> layer = nn.Dropout(0.1)
        >>> marks = marks_of([layer])
        >>> layer.p = 0.2
        >>> marks.changed()
        True
    """
    dicts = [where for thing in (*parts, *others) for where in _dicts(thing)]
    entries = [(where, name, value) for where in dicts for name, value in where.items() if name not in _OF_MODULES]
    leaves = {id(thing.__dict__.get(n)) for thing in parts for n in _LEAVES}
    values = [(name, _key(value)) for where, name, value in entries if id(where) not in leaves]
    return Marks(entries, [(where, len(where)) for where in dicts], tuple(values))


def _dicts(thing: Any) -> Iterator[dict[Any, Any]]:
    own = getattr(thing, "__dict__", None)
    if isinstance(own, dict):
        yield own
    if isinstance(thing, nn.Module):
        yield from (found for name in _INSIDE if isinstance(found := thing.__dict__.get(name), dict))


def _key(value: Any) -> Any:
    return Same(value) if isinstance(value, Tensor | list | dict | set) else constant(value)
