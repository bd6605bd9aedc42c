"""What every way to cut is: a frozen value that gives positions in a traced forward."""

from abc import ABC, abstractmethod
from itertools import accumulate

from funpipe._errors import StageError
from funpipe.stages.sources import Sources
from funpipe.tracing.traced import Traced


class Cutter(ABC):
    """The base of all ways to cut. A subclass is final: a frozen dataclass whose fields are its options.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 3)}, torch.ones(4, 3))
        >>> cutter = fp.stages.balanced(2)
        >>> isinstance(cutter, fp.stages.Cutter), len(cutter(traced))
        (True, 1)
    """

    @abstractmethod
    def __call__(self, traced: Traced) -> tuple[int, ...]:
        """Cuts a traced graph.

        Args:
            traced: the joint graph of one microbatch.

        Returns:
            Ascending positions in `traced.forward`, for `partition`; stage i begins at the position before its own.

        Raises:
            StageError: there is no such cut; the remedy is named.
        """


def cuts_at(traced: Traced, points: list[tuple[int, str]]) -> tuple[int, ...]:
    """The cuts at named points, if there is at least one operation before, between and after them.

    Args:
        traced: the graph.
        points: positions in `traced.forward`, each with how a message calls it; in any order.

    Returns:
        The positions, ascending.

    Raises:
        StageError: a stage would be empty; the points at its ends are named.
    """
    points = sorted(points, key=lambda point: point[0])
    before = _owned_before(traced)
    ends = [(0, ""), *points, (len(traced.forward), "")]
    for (low, first), (high, second) in zip(ends, ends[1:], strict=False):
        if points and before[low] == before[high]:
            raise StageError(_empty_text(first, second))
    return tuple(position for position, _ in points)


def _owned_before(traced: Traced) -> list[int]:
    """How many operations that a stage can own lie before each position."""
    sources = Sources(traced.graph)
    return [0, *accumulate(0 if sources.floats(n) else 1 for n in traced.forward)]


def _empty_text(first: str, second: str) -> str:
    if first and second:
        return (
            f"{first} and {second} give the same cut: no operation lies between them, and the stage between would be "
            "empty. Remove one of the two."
        )
    if second:
        return f"{second} lies before the first operation of the loss function: stage 0 would be empty. Remove it."
    return f"{first} lies after the last operation of the loss function: the last stage would be empty. Remove it."
