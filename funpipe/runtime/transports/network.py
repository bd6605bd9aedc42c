"""Messages over torch.distributed: gloo on CPUs, NCCL on GPUs.

gloo tells messages apart by their tag, which is the message's id. NCCL has no tags: it matches the messages of a pair
in the order in which they are posted, so each direction of a pair has a communicator of its own, on which the order
is the one that the verifier checked. Those are opened at the start, pair by pair: opening one blocks both ends, and
doing it in the middle of a schedule could hang.
"""

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe.backends.transport import Message
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.transports import wire
from funpipe.runtime.transports.shared_memory import SharedMemory


@dataclass(frozen=True, slots=True)
class Started:
    """A transfer under way: torch's handle, and the tensors that must live until it is over."""

    near: SharedMemory
    peer: int
    work: dist.Work
    wire: Tensor
    tensor: Tensor

    def wait(self, timeout: float) -> Tensor:
        """Blocks until it is over; returns the tensor."""
        self.near.beside(lambda: wait(self.work, timeout, self.tensor.is_cuda), [self.near.names[self.peer]])
        return self.tensor


class Network:
    """Messages between the ranks of this process's pipeline.

    Args:
        mesh: the processes.
        pp: the group of the pipeline's ranks.
        near: what is taken care of during a wait.
    """

    def __init__(self, mesh: Mesh, pp: dist.ProcessGroup, near: SharedMemory) -> None:
        self.near = near
        self.forward = self.backward = pp
        if mesh.device.type == "cuda":
            self.forward, self.backward = _direction(mesh), _direction(mesh)
            self._open(mesh)

    def send(self, tensor: Tensor, message: Message) -> Started:
        """Starts a message whose tensor is laid out as its type says."""
        flat = wire.as_bytes(tensor)
        work = self._channel(message).send([flat], message.dst, message.id)
        return Started(self.near, message.dst, work, flat, tensor)

    def post_recv(self, message: Message) -> Started:
        """Allocates the buffer and starts receiving."""
        tensor = wire.empty(message.type)
        flat = wire.as_bytes(tensor)
        work = self._channel(message).recv([flat], message.src, message.id)
        return Started(self.near, message.src, work, flat, tensor)

    def close(self) -> None:
        """Forgets the groups."""
        del self.forward, self.backward

    def _channel(self, message: Message) -> dist.ProcessGroup:
        """The group whose communicator carries the message's direction."""
        return self.forward if message.src < message.dst else self.backward

    def _open(self, mesh: Mesh) -> None:
        """Makes the communicators between neighbours (the last and the first rank are too), in one order for all."""
        pp = mesh.shape.pp
        pairs = sorted({tuple(sorted((rank, (rank + 1) % pp))) for rank in range(pp) if pp > 1})
        token = torch.zeros(1, dtype=torch.uint8, device=mesh.device)
        for low, high in pairs:
            for src, dst, group in ((low, high, self.forward), (high, low, self.backward)):
                if mesh.pp_rank == src:
                    dist.send(token, group=group, group_dst=dst)
                if mesh.pp_rank == dst:
                    dist.recv(token, group=group, group_src=src)


def wait(work: dist.Work, timeout: float, on_stream: bool) -> None:
    """Blocks the process (gloo) or the current stream (NCCL, whose watchdog knows the time limit)."""
    if not (work.wait() if on_stream else work.wait(timedelta(seconds=timeout))):
        raise RuntimeError("the transfer was aborted")


def _direction(mesh: Mesh) -> dist.ProcessGroup:
    """A further group over this process's pipeline; every process makes those of all replicas."""
    mine = None
    for row in mesh.device_mesh.mesh.tolist():
        group = dist.new_group(row)
        mine = group if dist.get_rank() in row else mine
    assert isinstance(mine, dist.ProcessGroup)
    return mine
