"""Exchanges between the ranks of a schedule while a step is planned; an error of one is raised on all."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist

from funpipe.interop.pipelining.errors import PipeRuntimeError, Untraceable

T = TypeVar("T")


@dataclass(frozen=True)
class Failed:
    """An error of another rank.

    Args:
        text: what it says.
        untraceable: whether a stage cannot be traced there.
    """

    text: str
    untraceable: bool = False


@dataclass(frozen=True, eq=False)
class Ranks:
    """The ranks of a schedule.

    Args:
        group: their process group; None: all processes, or this one alone.
        size: how many.
        rank: which of them this is.
    """

    group: Any
    size: int
    rank: int

    def gather(self, make: Callable[[], T]) -> list[T]:
        """What every rank makes, in their order; values that can be pickled.

        Args:
            make: called here.

        Raises:
            PipeRuntimeError: another rank raised; this rank's own error is raised as it is.
        """
        mine, error = _tried(make, sent=self.size > 1)
        if self.size == 1:
            return [_own(mine, error)]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine, group=self.group)
        return _all(found, error)

    def tell(self, source: int, make: Callable[[], T]) -> T:
        """What one rank makes, on all of them.

        Args:
            source: the rank.
            make: called there alone.

        Raises:
            PipeRuntimeError: as for `gather`.
        """
        mine, error = _tried(make, sent=self.size > 1) if self.rank == source else (None, None)
        if self.size == 1:
            return _own(mine, error)
        found: list[Any] = [mine]
        dist.broadcast_object_list(found, src=self._global(source), group=self.group)
        return _all(found, error, source)[0]

    def _global(self, rank: int) -> int:
        return rank if self.group is None else dist.get_global_rank(self.group, rank)


def _tried(make: Callable[[], T], sent: bool) -> tuple[T | Failed, Exception | None]:
    """What is made, or why it cannot be; what is sent must be one that can be pickled, or the others would wait."""
    try:
        made = make()
        if sent:
            pickle.dumps(made)
        return made, None
    except Exception as error:  # raised again by `_own` or `_all`, when the other ranks know of it
        return Failed(f"{type(error).__name__}: {error}", isinstance(error, Untraceable)), error


def _own(mine: Any, error: Exception | None) -> Any:
    if error is not None:
        raise error
    return mine


def _all(found: list[Any], error: Exception | None, first: int = 0) -> list[Any]:
    if error is not None:
        raise error
    for rank, one in enumerate(found, first):
        if isinstance(one, Failed):
            raise (Untraceable if one.untraceable else PipeRuntimeError)(
                f"rank {rank} of this schedule cannot run the step, so no rank does: {one.text} Correct it on rank "
                f"{rank}."
            )
    return found
