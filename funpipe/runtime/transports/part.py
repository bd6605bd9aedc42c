"""What a rank lays down for others of its host: bytes, what they are for, and what is returned when they are read."""

from collections import deque
from dataclasses import dataclass

from torch import Tensor


class Loan:
    """The use of a lent block, which is returned when nothing holds the loan any more.

    Args:
        lender: told of the return.
        block: the block's number.
    """

    def __init__(self, lender: deque[int], block: int) -> None:
        self.lender, self.block = lender, block

    def __del__(self) -> None:
        self.lender.append(self.block)


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank lays down.

    Args:
        raw: flat uint8, which never changes.
        form: a number for what its rank takes part in; those of a meeting are equal, or it is an error.
        loan: where it lies; None: in memory of its own.
    """

    raw: Tensor
    form: int = 0
    loan: Loan | None = None
