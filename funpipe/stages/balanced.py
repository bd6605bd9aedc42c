"""Cuts that make the slowest stage as fast as possible."""

from dataclasses import dataclass, field
from typing import final

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.stages.amounts import Amounts
from funpipe.stages.best import best_bounds
from funpipe.stages.costs import Costs, Roofline
from funpipe.stages.cutter import Cutter
from funpipe.stages.line import Line
from funpipe.stages.memory import Memory
from funpipe.tracing.traced import Traced


@final
@dataclass(frozen=True)
class Balanced(Cutter):
    """Cuts into stages of about equal time; made by `balanced`.

    Args:
        num_stages: how many.
        costs: the time of a node, and of a transfer.
        memory: what a rank may hold; None: anything.
    """

    num_stages: int
    costs: Costs = field(default_factory=Roofline)
    memory: Memory | None = None

    def __call__(self, traced: Traced) -> tuple[int, ...]:
        """The exact optimum over all positions where a cut is possible."""
        line = Line(traced)
        if self.num_stages > line.num_segments:
            raise StageError(
                f"balanced({self.num_stages}) asks for more stages than the loss function can be cut into: it has "
                f"{line.num_segments} operations that can be a stage. Ask for at most that many."
            )
        bounds = best_bounds(Amounts(line, self.costs), self.num_stages, self.memory)
        return tuple(line.boundaries[b] for b in bounds[1:-1])


def balanced(n: int, costs: Costs | None = None, memory_limit: int | Memory | None = None) -> Balanced:
    """Cuts into `n` stages such that the slowest one is as fast as possible.

    A stage's time is that of its nodes in the joint graph, forward and backward, and that of receiving what crosses
    into it, from earlier stages and from later ones. With a limit only partitions count whose ranks hold at most so
    much (`Memory`). The optimum over all contiguous partitions is exact; of several the one that moves the fewest bytes
    is taken, then the one that cuts earliest. The same graph is cut in the same way on every rank.

    Each backward node is reckoned to the operation whose stage would run it if every position were a cut. `partition`
    may run some elsewhere: the gradient of a leaf that is used several times, or a sum of gradients of a value that
    skips operations. The optimum is exact up to these: of 282 cuts of small random models, with residuals, tied heads
    and values that skip, into 2 and 3 stages, 280 were the best of all partitions, and the others 0.3 % and 2.5 % off.

    Where a rank has several stages, and the limit rules out the partition that is best without looking at their sum, a
    search decides (`joint.py`). It is exact as long as it need not tell more than 20,000 ways to cut the beginning
    apart; of more it follows the most promising. What it then finds keeps the limit, but where it is not proved to be
    the fastest, a `UserWarning` says so.

    Args:
        n: the number of stages.
        costs: the time of a node and of a transfer, in seconds; `Roofline()` by default.
        memory_limit: the bytes that a rank may hold, or a `Memory`, which says what they are made of; None: no limit.

    Returns:
        A cutter; it raises a StageError where the graph has fewer operations than `n`, where no cut keeps the limit, or
        where that search found none, though there may be one: the text says which.

    Raises:
        FunpipeTypeError: `n` is no int, or `memory_limit` is something else.
        StageError: `n` is less than 1, or the limit is negative.

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
    memory = memory_limit if memory_limit is None or isinstance(memory_limit, Memory) else Memory(memory_limit)
    return Balanced(n, Roofline() if costs is None else costs, memory)
