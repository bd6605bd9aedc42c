"""The state of a rotated step: whole, or with work open that the next step or a flush completes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from funpipe._errors import BatchError, RotateError, TreeError
from funpipe._typing import Tree


@dataclass(frozen=True, eq=False)
class Clean:
    """A whole state.

    Args:
        state: the user's tree.

    Example:
        >>> Clean({"w": 1.0}).state
        {'w': 1.0}
    """

    state: Tree


@dataclass(frozen=True, eq=False, repr=False)
class Pending:
    """A state whose deferred work is not done: some leaves are missing, so nothing can be read or saved.

    A rotated step takes it as it takes a `Clean` one. Collectives that are under way belong to it, so it is used once.

    Args:
        partial: the leaves that are there, by their names in graphs (`state.LEAF`).
        carry: what the deferred work reads, by name (`carry.NAME`).
        late: the leaves that are missing.

    Example:
        >>> Pending({}, {}, ("w",)).state
        Traceback (most recent call last):
        funpipe._errors.RotateError: state: the update of 'w' is still open: flush this Pending state first, as in \
clean = rotated.flush(pending), and read clean.state.
    """

    partial: Mapping[str, Any]
    carry: Mapping[str, Any]
    late: tuple[str, ...]
    _used: list[bool] = field(default_factory=list)

    def require_unused(self) -> None:
        """Raises if it went into a step or a flush before.

        Raises:
            RotateError: it did.
        """
        if self._used:
            raise RotateError(
                "this Pending state went into a step or a flush before, and what it had under way ended there: use the "
                "state that came out, as in state, aux = rotated.step(state, batch)."
            )

    @contextmanager
    def taken(self) -> Iterator[dict[str, Any]]:
        """All its values, by name, for what completes them; once.

        Whoever is refused before it has run anything, as when another rank cannot go on, has not used them.

        Raises:
            RotateError: they were taken before.
        """
        self.require_unused()
        try:
            yield {**self.partial, **self.carry}
        except (BatchError, TreeError):
            raise
        except BaseException:
            self._used.append(True)
            raise
        self._used.append(True)

    def refuse(self, what: str) -> NoReturn:
        """Raises: there is work open.

        Args:
            what: what was tried.

        Raises:
            RotateError: always.
        """
        first, *others = self.late or ("no leaf",)
        more = f" and {len(others)} more leaves" if others else ""
        raise RotateError(
            f"{what}: the update of {first!r}{more} is still open: flush this Pending state first, as in "
            "clean = rotated.flush(pending), and read clean.state."
        )

    def __repr__(self) -> str:
        return f"Pending({len(self.late)} leaves open, {len(self.carry)} values carried)"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self.refuse(name)

    def __getitem__(self, key: object) -> NoReturn:
        self.refuse(f"[{key!r}]")

    def __iter__(self) -> Iterator[Any]:
        self.refuse("iter")

    def __len__(self) -> int:
        self.refuse("len")

    def __bool__(self) -> bool:
        return True

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.refuse("saving")


def require_whole(value: object, what: str) -> None:
    """Raises if a value is a pending state.

    Args:
        value: anything.
        what: what is done with it, for the error.

    Raises:
        RotateError: it is pending; the text says to flush it.
    """
    if isinstance(value, Pending):
        value.refuse(what)
