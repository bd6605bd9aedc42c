"""Messages over torch.distributed: gloo on CPUs, NCCL on GPUs.

gloo tells messages apart by their tag, which is the message's id. NCCL has no tags: a communicator matches messages in
the order in which they are started, one after the other on a stream of its own. So each edge, which is one direction of
a pair of ranks, has a group and with it a communicator of its own, on which the order is the one that the verifier
checked: a receive that is posted early keeps nothing else waiting. Communicators are opened before a step runs, edge by
edge: opening one blocks both ends, and in the middle of a schedule it could hang. Every message is an operation by
itself, so that the number of those which NCCL takes in one group plays no part.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe.backends.transport import Message
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.transports import wire
from funpipe.runtime.transports.shared_memory import SharedMemory

Edge = tuple[int, int]
"""The pipeline ranks that send and receive."""


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
        self.near.listening.beside(lambda: wait(self.work, timeout, self.tensor.is_cuda), [self.near.names[self.peer]])
        return self.tensor


class Network:
    """Messages between the ranks of this process's pipeline.

    Args:
        mesh: the processes.
        pp: the group of the pipeline's ranks.
        near: what is taken care of during a wait.
        apart: whether each edge has a group of its own; None: on GPUs.
    """

    def __init__(self, mesh: Mesh, pp: dist.ProcessGroup, near: SharedMemory, apart: bool | None = None) -> None:
        self.mesh, self.pp, self.near = mesh, pp, near
        self.apart = mesh.device.type == "cuda" if apart is None else apart
        self.known: set[Edge] = set()
        self.groups: dict[Edge, dist.ProcessGroup] = {}

    def open(self, messages: Iterable[Message]) -> None:
        """Opens what messages need and is not open yet; all ranks of the mesh call it with the same messages.

        Args:
            messages: of a plan, those of other ranks among them.
        """
        if not self.apart:
            return
        new = {(m.src, m.dst) for m in messages} - self.known
        for edge in sorted(
            new, key=lambda edge: (sorted(edge), edge)
        ):  # in one order for all, so nobody waits in a ring
            self.known.add(edge)
            self._open(edge)

    def send(self, tensor: Tensor, message: Message) -> Started:
        """Starts a message whose tensor is laid out as its type says."""
        flat = wire.as_bytes(tensor)
        group, ranks = self._group(message)
        work = group.send([flat], ranks[message.dst], message.id)
        return Started(self.near, message.dst, work, flat, tensor)

    def post_recv(self, message: Message) -> Started:
        """Allocates the buffer and starts receiving."""
        tensor = wire.empty(message.type)
        flat = wire.as_bytes(tensor)
        group, ranks = self._group(message)
        work = group.recv([flat], ranks[message.src], message.id)
        return Started(self.near, message.src, work, flat, tensor)

    def close(self) -> None:
        """Forgets the groups."""
        self.groups.clear()
        del self.pp

    def _group(self, message: Message) -> tuple[dist.ProcessGroup, dict[int, int]]:
        """The group that carries a message, and what the pipeline's ranks are called in it."""
        edge = message.src, message.dst
        if not self.apart:
            return self.pp, {rank: rank for rank in edge}
        if edge not in self.groups:
            raise RuntimeError(f"no communicator from rank {edge[0]} to rank {edge[1]} was opened before the step")
        return self.groups[edge], {rank: place for place, rank in enumerate(sorted(edge))}

    def _open(self, edge: Edge) -> None:
        """Makes an edge's group in every replica, as torch asks of all processes; a communicator in this one's."""
        backend = "nccl" if self.mesh.device.type == "cuda" else None
        limit = timedelta(seconds=self.mesh.timeout)
        for row in self.mesh.device_mesh.mesh.tolist():
            ends = sorted(row[rank] for rank in edge)
            group = dist.new_group(ends, timeout=limit, backend=backend)
            if dist.get_rank() in ends:
                assert isinstance(group, dist.ProcessGroup)
                self.groups[edge] = group
        if self.mesh.pp_rank in edge:
            self._meet(edge)

    def _meet(self, edge: Edge) -> None:
        """A first message, for which NCCL makes the communicator."""
        token, group = torch.zeros(1, dtype=torch.uint8, device=self.mesh.device), self.groups[edge]
        place = sorted(edge).index(edge[1] if self.mesh.pp_rank == edge[0] else edge[0])
        send = self.mesh.pp_rank == edge[0]
        work = group.send([token], place, 0) if send else group.recv([token], place, 0)
        wait(work, self.mesh.timeout, token.is_cuda)


def wait(work: dist.Work, timeout: float, on_stream: bool) -> None:
    """Blocks the process (gloo) or the current stream (NCCL, whose watchdog knows the time limit)."""
    if not (work.wait() if on_stream else work.wait(timedelta(seconds=timeout))):
        raise RuntimeError("the transfer was aborted")
