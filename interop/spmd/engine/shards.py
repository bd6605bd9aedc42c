"""`Shard`: rows of a tensor that one rank holds, and the communication that makes the whole of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from funpipe.functional.communication import OPERATORS
from funpipe.interop.spmd.engine.communication import ranks

AXIS = "dp"


@dataclass(frozen=True)
class Shard:
    """The rows that one rank has of a tensor; as `torch.chunk` cuts it, so the last ranks may have fewer, or none.

    Args:
        rows: of the whole.
        rank: of this process.
        size: number of ranks.
    """

    rows: int
    rank: int
    size: int

    @property
    def chunk(self) -> int:
        """The rows of the first rank."""
        return -(-self.rows // self.size)

    @property
    def bounds(self) -> tuple[int, int]:
        """The first row, and the one behind the last."""
        return min(self.rank * self.chunk, self.rows), min((self.rank + 1) * self.chunk, self.rows)

    def own(self, whole: Tensor) -> Tensor:
        """This rank's rows of a tensor.

        The same operators on every rank, also where there are no rows: else what they read, and the communication
        behind that, would be dead code on some ranks alone.
        """
        rows = _padded(whole, self.chunk * self.size - self.rows).split(self.chunk)[self.rank]
        return self._unpadded(rows)

    def whole(self, own: Tensor) -> Tensor:
        """All ranks' rows."""
        low, high = self.bounds
        padded = _padded(own, self.chunk - (high - low))
        rows = OPERATORS.wait_tensor(OPERATORS.all_gather(padded, AXIS, self.size))
        return rows if self.chunk * self.size == self.rows else rows[: self.rows]

    def mean(self, gradient: Tensor) -> Tensor:
        """The mean of all ranks' gradients of the whole; each rank computes its rows of it."""
        padded = _padded(gradient / self.size, self.chunk * self.size - self.rows)
        rows = OPERATORS.wait_tensor(OPERATORS.reduce_scatter(padded, "sum", AXIS, self.size))
        return self.whole(self._unpadded(rows))

    def _unpadded(self, rows: Tensor) -> Tensor:
        low, high = self.bounds
        return rows if high - low == self.chunk else rows[: high - low]


def _padded(x: Tensor, rows: int) -> Tensor:
    return x if rows == 0 else torch.cat([x, x.new_zeros(rows, *x.shape[1:])])


def total(gradient: Tensor) -> Tensor:
    """The sum of all ranks' tensors."""
    return OPERATORS.wait_tensor(OPERATORS.all_reduce(gradient, "sum", AXIS))


def mean(gradient: Tensor) -> Tensor:
    """The mean of all ranks' tensors; divided first, as DistributedDataParallel does."""
    return total(gradient / ranks()[1])
