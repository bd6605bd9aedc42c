"""Cuts that make the most expensive stage as cheap as possible."""

from dataclasses import dataclass, field
from typing import final

import numpy as np

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.stages.costs import Costs, Roofline
from funpipe.stages.cutter import Cutter
from funpipe.stages.line import Line
from funpipe.stages.min_max import Matrix, min_max
from funpipe.tracing.traced import Traced

BACKWARD = 2
"""The work of a backward, in forwards: one product each for the gradients of the input and of the weights."""


@final
@dataclass(frozen=True)
class Balanced(Cutter):
    """Cuts into stages of about equal time; made by `balanced`.

    Args:
        num_stages: how many.
        costs: the time of a node, and of a transfer.
    """

    num_stages: int
    costs: Costs = field(default_factory=Roofline)

    def __call__(self, traced: Traced) -> tuple[int, ...]:
        """The exact optimum over all positions where a cut is possible."""
        line = Line(traced)
        if self.num_stages > len(line.boundaries) - 1:
            raise StageError(
                f"balanced({self.num_stages}) asks for more stages than the loss function can be cut into: it has "
                f"{len(line.boundaries) - 1} operations that can be a stage. Ask for at most that many."
            )
        moved = line.moved()
        cuts = min_max(self._cost(line, traced, moved), moved, self.num_stages)
        return tuple(line.boundaries[c] for c in cuts)

    def _cost(self, line: Line, traced: Traced, moved: Matrix) -> Matrix:
        """The time of the stage from each boundary to each other: its work, and what crosses into it and back."""
        times = [self.costs.node(n) for n in traced.forward]
        done = np.concatenate([[0.0], np.cumsum(times)])[list(line.boundaries)]
        cost = (1 + BACKWARD) * (done[None, :] - done[:, None]) + self._transfers(moved)
        return np.where(np.tri(len(done), dtype=bool), np.inf, cost)

    def _transfers(self, moved: Matrix) -> Matrix:
        sizes, index = np.unique(moved, return_inverse=True)
        times = np.array([self.costs.transfer(int(size)) if size else 0.0 for size in sizes])
        return times[index].reshape(moved.shape)


def balanced(n: int, costs: Costs | None = None) -> Balanced:
    """Cuts into `n` stages such that the slowest one is as fast as possible.

    A stage's time is that of its forward nodes three times (a backward takes about two forwards), and of what crosses
    into it and back. The optimum over all contiguous partitions is exact; of several the one that moves the fewest
    bytes is taken, then the one that cuts earliest. The same graph is cut in the same way on every rank.

    Args:
        n: the number of stages.
        costs: the time of a node and of a transfer, in seconds; `Roofline()` by default.

    Returns:
        A cutter; it raises a StageError where the graph has fewer operations than `n`.

    Raises:
        FunpipeTypeError: `n` is no int.
        StageError: `n` is less than 1.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"] @ p["c"]).sum()
        >>> traced = fp.trace(loss, {k: torch.ones(64, 64) for k in "abc"}, torch.ones(64, 64))
        >>> fp.stages.balanced(3)(traced)
        (1, 2)
    """
    if not isinstance(n, int) or isinstance(n, bool):
        raise FunpipeTypeError(f"balanced got {n!r}; pass the number of stages as an int.")
    if n < 1:
        raise StageError(f"balanced got {n} stages; pass an int of at least 1.")
    return Balanced(n, Roofline() if costs is None else costs)
