"""Memory that a process writes and lends to others of its host: whole blocks, each shared by a descriptor of its own.

    written ──► lent to each reader ──► returned by each ──► free, for the next of its size

A block is mapped once by each process and stays mapped, so that a step which needs the same sizes as the one before
touches no new page. Where all are lent, one more is made: nobody waits for room. The memory has no name (`memfd`), and
is gone with the last process that has mapped it.
"""

import os
import sys
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from funpipe.runtime.transports.recycled import rounded

LEAST = 2**16
"""Bytes of a block at least."""


@dataclass(eq=False)
class Block:
    """One piece of memory.

    Args:
        number: its name among this process's.
        descriptor: what another process maps; None once it was sent to all who share the block.
        raw: all its bytes, as this process sees them.
        known: the global ranks to which it was sent.
        readers: how many have not returned it yet.
    """

    number: int
    descriptor: int | None
    raw: Tensor
    known: set[int] = field(default_factory=set)
    readers: int = 0

    def serves(self, others: Collection[int]) -> bool:
        """Whether it is free, and other ranks have it or can still get it."""
        return self.readers == 0 and (self.descriptor is not None or self.known.issuperset(others))

    def close(self) -> None:
        """Lets go of the descriptor; what is mapped stays so."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class Blocks:
    """The blocks of this process. `done` may be called by any thread, and while another takes one."""

    def __init__(self) -> None:
        self.all: list[Block] = []
        self.returned: deque[int] = deque()

    def take(self, nbytes: int, others: Collection[int]) -> Block:
        """Gives out the smallest free block that is large enough, or a new one.

        Args:
            nbytes: how much is needed.
            others: who will read it and return it, global ranks; so will this one.

        Raises:
            OSError: there is no memory.
        """
        while self.returned:
            self.all[self.returned.popleft()].readers -= 1
        free = (block for block in self.all if block.serves(others) and block.raw.numel() >= nbytes)
        found = min(free, key=lambda block: (block.raw.numel(), block.number), default=None)
        if found is None:
            found = _made(len(self.all), max(LEAST, rounded(nbytes)))
            self.all.append(found)
        found.readers = 1 + len(others)
        return found

    def done(self, number: int) -> None:
        """One reader has returned a block."""
        self.returned.append(number)

    def close(self) -> None:
        """Lets go of all."""
        for block in self.all:
            block.close()
        self.all.clear()


def mapped(descriptor: int, nbytes: int) -> Tensor:
    """A block as bytes, which stay mapped when the descriptor is closed."""
    return torch.from_file(f"/proc/self/fd/{descriptor}", shared=True, size=nbytes, dtype=torch.uint8, device="cpu")


def _made(number: int, nbytes: int) -> Block:
    if sys.platform != "linux":
        raise OSError("memory without a name is there on Linux only")
    descriptor = os.memfd_create("funpipe", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, nbytes)
    return Block(number, descriptor, mapped(descriptor, nbytes))
