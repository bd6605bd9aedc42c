"""Memory for results that come in every step: what a tensor no longer needs is used for the next one of its size.

The first use of a page costs more than a sum over it does, and large memory that is freed goes back to the system, page
by page. So it is kept: as much as was in use at once.
"""

import mmap
import sys
from collections import defaultdict
from contextlib import suppress
from weakref import finalize

import torch
from torch import Tensor

LEAST = 2**18
"""Bytes; what is smaller comes from torch's allocator, which keeps it anyway."""


class Recycled:
    """Memory of this process, by size.

    Example:
        >>> memory = Recycled()
        >>> first = memory.take(2**20).fill_(7)
        >>> part = first[10:20]
        >>> del first
        >>> memory.kept
        0
        >>> del part
        >>> memory.kept == (2**20 if sys.platform == "linux" else 0)
        True
    """

    def __init__(self) -> None:
        self.free: dict[int, list[mmap.mmap]] = defaultdict(list)

    @property
    def kept(self) -> int:
        """Bytes that no tensor uses now."""
        return sum(size * len(free) for size, free in self.free.items())

    def take(self, nbytes: int) -> Tensor:
        """Gives out memory until the last tensor on it is gone.

        Args:
            nbytes: how much.

        Returns:
            A flat uint8 tensor, not filled.
        """
        if nbytes < LEAST or sys.platform != "linux":
            return torch.empty(nbytes, dtype=torch.uint8, device="cpu")
        free = self.free[rounded(nbytes)]
        memory = free.pop() if free else _mapped(rounded(nbytes))
        held = memoryview(memory)  # the tensor's storage holds it, and nothing else does
        finalize(held, free.append, memory).atexit = False
        return torch.frombuffer(held, dtype=torch.uint8, count=nbytes)


def rounded(nbytes: int) -> int:
    """The next power of two: sizes that differ a little share memory, and pages that nobody touches take none."""
    return 1 << (nbytes - 1).bit_length()


def _mapped(nbytes: int) -> mmap.mmap:
    if sys.platform != "linux":
        raise NotImplementedError("memory is kept on Linux only")
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
