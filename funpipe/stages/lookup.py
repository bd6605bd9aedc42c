"""A function of integers, computed once for each and then looked up for whole arrays."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

BITS = 16
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Knuth's multiplicative hashing: 2**64 over the golden ratio."""


class Lookup:
    """A function of integers of which arrays hold few different ones, but many times.

    Sorting an array to find them takes some 30 times as long as looking all of it up.

    Args:
        function: from one integer, at least 0, to another.

    Example:
        >>> double = Lookup(lambda number: 2 * number)
        >>> double(np.array([[1, 2], [2, 1]]))
        array([[2, 4],
               [4, 2]])
    """

    def __init__(self, function: Callable[[int], int]) -> None:
        self.function = function
        self.number = np.full(2**BITS, -1, np.int64)
        self.value = np.zeros(2**BITS, np.int64)

    def __call__(self, numbers: Integers) -> Integers:
        place = ((numbers.astype(np.uint64) * _SPREAD) >> np.uint64(64 - BITS)).astype(np.intp)
        values, unknown = self.value[place], self.number[place] != numbers
        if unknown.any():
            values[unknown] = self._learn(numbers[unknown], place[unknown])
        return values

    def _learn(self, numbers: Integers, place: NDArray[np.intp]) -> Integers:
        """The values of numbers that are not there; of those that share a place, the last one stays there."""
        found, index = np.unique(numbers, return_inverse=True)
        values = np.array([self.function(int(number)) for number in found], np.int64)[index]
        self.number[place], self.value[place] = numbers, values
        return values
