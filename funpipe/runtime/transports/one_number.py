"""One number of every rank, known on every rank: the smallest collective, for what is agreed upon in each step."""

import torch
import torch.distributed as dist

from funpipe.runtime.transports.network import wait
from funpipe.runtime.transports.shared_memory import SharedMemory


class NumbersNearby:
    """Where all ranks share a host.

    Args:
        near: the channels.
        ranks: all global ranks.
    """

    def __init__(self, near: SharedMemory, ranks: list[int]) -> None:
        self.near, self.ranks, self.mine = near, ranks, 0

    def start(self, number: int) -> None:
        """Tells the others this rank's number."""
        self.mine = number
        self.near.tell(number)

    def wait(self, timeout: float) -> list[int]:
        """Blocks until all numbers are here; in the order of the ranks."""
        return [self.mine if rank == self.near.rank else self.near.told(rank, timeout) for rank in self.ranks]


class NumbersFarAway:
    """Over the network, always through the same tensors: one gathering is over before the next begins.

    Args:
        group: all ranks; it carries CPU tensors.
        near: the channels to those of this host.
    """

    def __init__(self, group: dist.ProcessGroup, near: SharedMemory) -> None:
        self.group, self.near = group, near
        self.mine = torch.zeros(1, dtype=torch.int64, device="cpu")
        self.all = torch.zeros(group.size(), dtype=torch.int64, device="cpu")
        self.parts = list(self.all.split(1))
        self.work: dist.Work | None = None

    def start(self, number: int) -> None:
        """Tells the others this rank's number."""
        self.mine.fill_(number)
        self.work = self.group.allgather([self.parts], [self.mine])

    def wait(self, timeout: float) -> list[int]:
        """Blocks until all numbers are here; in the order of the ranks."""
        work = self.work
        assert work is not None
        ranks = dist.get_process_group_ranks(self.group)
        self.near.listening.beside(lambda: wait(work, timeout, on_stream=False), ranks)
        return self.all.tolist()
