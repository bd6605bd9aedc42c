"""Bytes that two processes of one host see: one of them writes, the other reads, and each part is in use in between.

    0        first          next            size
    ├────────┼──────────────┼───────────────┤
       free    in use, in     free
               this order

The writer gives out the parts, and gets them back in the same order as the reader reports that it has read them. When
nothing is in use it begins at the front again, so that a pair with little under way touches few pages, and warm ones.
"""

from collections import deque

from torch import Tensor

from funpipe._typing import TensorType

PAGE = 4096
"""Bytes; parts begin at multiples of it, so every dtype is aligned."""

SIZE = 1024 * PAGE
"""Bytes for each direction between two processes; pages that were never used take no memory."""

LARGEST = SIZE // 4
"""Bytes of a part at most. With a quarter of the whole not yet reported, one such part finds room in one piece."""

MOST = 128
"""Parts in use at most: fewer than a socket holds records of."""


def pages(nbytes: int) -> int:
    """How many pages a part of so many bytes takes: at least one."""
    return max(1, -(-nbytes // PAGE))


class Parts:
    """Which parts of the memory are in use; the writer's side."""

    def __init__(self) -> None:
        self.used: deque[tuple[int, int]] = deque()
        self.next = 0

    def take(self, nbytes: int) -> int | None:
        """Gives out a part.

        Args:
            nbytes: its size, at most `LARGEST`; one page is the least.

        Returns:
            Where it begins, or None if there is no room now.
        """
        length = pages(nbytes) * PAGE
        start = self._room(length)
        if start is not None:
            self.used.append((start, length))
            self.next = start + length
        return start

    def give_back(self, count: int) -> None:
        """Takes back the oldest parts: the reader has read them."""
        for _ in range(count):
            self.used.popleft()

    def _room(self, length: int) -> int | None:
        if not self.used:
            return 0
        if len(self.used) == MOST:
            return None
        first, next = self.used[0][0], self.next
        if next <= first:  # what is in use goes over the end
            return next if next + length <= first else None
        if next + length <= SIZE:
            return next
        return 0 if length <= first else None


class Read:
    """How many parts are read and not reported yet; the reader's side."""

    def __init__(self) -> None:
        self.parts = self.pages = 0

    @property
    def due(self) -> bool:
        """Whether they must be reported now, or the writer might wait for room that is there."""
        return self.parts >= MOST // 4 or self.pages >= pages(LARGEST)

    def add(self, nbytes: int) -> None:
        """One more is read."""
        self.parts += 1
        self.pages += pages(nbytes)

    def forget(self) -> int:
        """They are reported; returns how many there were."""
        found, self.parts, self.pages = self.parts, 0, 0
        return found


class Views:
    """Tensors on the shared bytes, each made once.

    Args:
        shared: all bytes of one direction, one-dimensional uint8.
    """

    def __init__(self, shared: Tensor) -> None:
        self.shared = shared
        self.plain: dict[tuple[int, int], Tensor] = {}
        self.typed: dict[tuple[int, int], tuple[TensorType, Tensor]] = {}

    def of_bytes(self, start: int, nbytes: int) -> Tensor:
        """A part as uint8."""
        key = start, nbytes
        if key not in self.plain:
            self.plain[key] = self.shared.narrow(0, start, nbytes)
        return self.plain[key]

    def of(self, start: int, type: TensorType) -> Tensor:
        """A part as a tensor of a type; found by the identity of the type, which costs less than its hash."""
        key = start, id(type)
        if key not in self.typed:
            plain = self.shared.narrow(0, start, type.nbytes)
            self.typed[key] = type, plain.view(type.dtype).as_strided(type.shape, type.stride)  # keeps the type, too
        return self.typed[key][1]
