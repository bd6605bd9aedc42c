"""How an integer of a graph follows a size: found from two sizes, checked at every other."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Relation:
    """`(square * u + slope) * u + offset`, or `u // divisor`, of a size u.

    Args:
        square, slope, offset: integers.
        divisor: 0 where nothing is divided.
    """

    square: int = 0
    slope: int = 0
    offset: int = 0
    divisor: int = 0

    def at(self, size: Any) -> Any:
        """The integer at a size, which may be a number or stand for one."""
        if self.divisor:
            return size // self.divisor
        terms = [size * size * self.square] if self.square else []
        terms += [size * self.slope] if self.slope else []
        terms += [self.offset] if self.offset or not terms else []
        return sum(terms[1:], start=terms[0])

    @property
    def is_fixed(self) -> bool:
        """Whether the integer is the same at every size."""
        return not (self.square or self.slope or self.divisor)


def relation(one: int, other: int, size: int, other_size: int) -> Relation | None:
    """The simplest relation that gives one integer at one size, and another at another; None if there is none.

    Args:
        one, other: the integers.
        size, other_size: different, positive.

    Example:
        >>> relation(64, 96, 16, 24)
        Relation(square=0, slope=4, offset=0, divisor=0)
        >>> relation(256, 576, 16, 24)
        Relation(square=1, slope=0, offset=0, divisor=0)
        >>> relation(15, 23, 16, 24)
        Relation(square=0, slope=1, offset=-1, divisor=0)
    """
    candidates = [Relation(offset=one)]
    if one % size == 0:
        candidates.append(Relation(slope=one // size))
    if one % (size * size) == 0:
        candidates.append(Relation(square=one // (size * size)))
    if one and size % one == 0:
        candidates.append(Relation(divisor=size // one))
    slope, rest = divmod(other - one, other_size - size)
    if rest == 0:
        candidates.append(Relation(slope=slope, offset=one - slope * size))
    return next((r for r in candidates if r.at(size) == one and r.at(other_size) == other), None)
