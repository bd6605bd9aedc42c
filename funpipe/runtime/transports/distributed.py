"""The transport of ranks that are processes, over torch.distributed.

gloo tells messages apart by their tag, which is the message's id. NCCL has no tags: it matches the messages of a pair
in the order in which they are posted, so each direction of a pair has a communicator of its own, on which the order
is the one that the verifier checked. Those are opened at the start, pair by pair: opening one blocks both ends, and
doing it in the middle of a schedule could hang.
"""

import atexit
import weakref
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe.backends.transport import Group, Message
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.transports import failures, wire


@dataclass(frozen=True)
class Started:
    """A transfer under way: torch's handle, and the tensors that must live until it is over."""

    work: dist.Work
    wire: Tensor
    tensor: Tensor


class Distributed:
    """One rank's transport over torch.distributed; implements `Transport`, whose methods say what each call waits for.

    Every process of the mesh makes its own, all of them at the same point of the program.

    Args:
        mesh: the processes, from `funpipe.runtime.mesh`.

    Example:
        >>> from funpipe.runtime.mesh import mesh
        >>> alone = mesh(pp=1, device="cpu")
        >>> gathered = Distributed(alone).all_gather_start(torch.tensor([1, 2]), "world")
        >>> gathered.wait()
        [tensor([1, 2])]
        >>> alone.close()
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.rank = mesh.pp_rank
        self.timeout = timedelta(seconds=mesh.timeout)
        world = dist.group.WORLD
        assert world is not None
        names: tuple[Group, Group] = ("pp", "dp")
        self.groups: dict[Group, dist.ProcessGroup] = {
            "world": world,
            **{name: mesh.device_mesh.get_group(name) for name in names},
        }
        self.sent: dict[int, deque[Started]] = defaultdict(deque)
        self.posted: dict[int, deque[Started]] = defaultdict(deque)
        self.given_up: BaseException | None = None
        self.forward = self.backward = self.groups["pp"]
        if mesh.device.type == "cuda":
            self.forward, self.backward = _direction(mesh), _direction(mesh)
            self.open_channels()
        atexit.register(_let_go, weakref.ref(self))  # before `Mesh.close`, which was registered earlier

    def send(self, tensor: Tensor, message: Message) -> None:
        """See `Transport.send`."""
        self.require_whole()
        wire.check_sent(tensor, message, self.rank)
        tensor = wire.laid_out(tensor, message.type)
        flat = wire.as_bytes(tensor)
        with self.naming(message):
            work = self.channel(message).send([flat], message.dst, message.id)
        self.sent[message.id].append(Started(work, flat, tensor))

    def wait_send(self, message: Message) -> None:
        """See `Transport.wait_send`."""
        self.finish(wire.oldest(self.sent, message, self.rank, "send"), message)

    def post_recv(self, message: Message) -> None:
        """See `Transport.post_recv`."""
        self.require_whole()
        wire.check_end(message, self.rank, message.dst, "received")
        tensor = wire.empty(message.type)
        flat = wire.as_bytes(tensor)
        with self.naming(message):
            work = self.channel(message).recv([flat], message.src, message.id)
        self.posted[message.id].append(Started(work, flat, tensor))

    def wait_recv(self, message: Message) -> Tensor:
        """See `Transport.wait_recv`."""
        started = wire.oldest(self.posted, message, self.rank, "post_recv")
        self.finish(started, message)
        return started.tensor

    def all_reduce(self, tensor: Tensor, group: Group) -> None:
        """See `Transport.all_reduce`."""
        self.require_whole()
        whole = tensor.detach().contiguous()
        with self.naming_collective("all_reduce", group):
            self.wait(dist.all_reduce(wire.flat(whole), group=self.groups[group], async_op=True))
        if whole.data_ptr() != tensor.data_ptr():
            tensor.detach().copy_(whole)

    def broadcast(self, tensor: Tensor, src: int, group: Group) -> None:
        """See `Transport.broadcast`."""
        self.require_whole()
        whole = tensor.detach().contiguous()
        with self.naming_collective("broadcast", group):
            self.wait(dist.broadcast(wire.as_bytes(whole), group=self.groups[group], group_src=src, async_op=True))
        if whole.data_ptr() != tensor.data_ptr():
            tensor.detach().copy_(whole)

    def all_gather_start(self, tensor: Tensor, group: Group) -> "Gathering":
        """See `Transport.all_gather_start`."""
        self.require_whole()
        own = tensor.detach().clone(memory_format=torch.contiguous_format)
        parts = [torch.empty_like(own) for _ in range(self.groups[group].size())]
        with self.naming_collective("all_gather", group):
            work = dist.all_gather(
                [wire.as_bytes(part) for part in parts], wire.as_bytes(own), group=self.groups[group], async_op=True
            )
        assert work is not None
        return Gathering(self, group, work, own, parts)

    def give_up(self, error: BaseException) -> None:
        """Refuses everything from now on: a step ended in its middle, and its messages would pair with later ones.

        Args:
            error: what ended the step.
        """
        self.given_up = self.given_up or error

    def require_whole(self) -> None:
        """Raises if a step ended in its middle."""
        if self.given_up is not None:
            raise failures.unfinished(self.given_up) from self.given_up

    def channel(self, message: Message) -> dist.ProcessGroup:
        """The group whose communicator carries the message's direction."""
        return self.forward if message.src < message.dst else self.backward

    def finish(self, started: Started, message: Message) -> None:
        """Blocks until a transfer is over."""
        with self.naming(message):
            self.wait(started.work)

    def wait(self, work: dist.Work | None) -> None:
        """Blocks the process (gloo) or the current stream (NCCL, whose watchdog knows the time limit)."""
        assert work is not None
        on_stream = self.mesh.device.type == "cuda"
        if not (work.wait() if on_stream else work.wait(self.timeout)):
            raise RuntimeError("the transfer was aborted")

    @contextmanager
    def naming(self, message: Message) -> Iterator[None]:
        """Turns the backend's errors into ones that name the message and the peer."""
        try:
            yield
        except RuntimeError as error:
            if "timed out" in str(error).lower():
                raise failures.late(message, self.rank, self.mesh.timeout) from error
            raise failures.broken(message, self.rank, error) from error

    @contextmanager
    def naming_collective(self, what: str, group: Group) -> Iterator[None]:
        """Turns the backend's errors into ones that name the collective and its ranks."""
        try:
            yield
        except RuntimeError as error:
            ranks = dist.get_process_group_ranks(self.groups[group])
            raise failures.collective_failed(what, dist.get_rank(), group, ranks, error) from error

    def open_channels(self) -> None:
        """Makes the communicators between neighbours (the last and the first rank are too), in one order for all."""
        pp = self.mesh.shape.pp
        pairs = sorted({tuple(sorted((rank, (rank + 1) % pp))) for rank in range(pp) if pp > 1})
        token = torch.zeros(1, dtype=torch.uint8, device=self.mesh.device)
        for low, high in pairs:
            for src, dst, group in ((low, high, self.forward), (high, low, self.backward)):
                if self.rank == src:
                    dist.send(token, group=group, group_dst=dst)
                if self.rank == dst:
                    dist.recv(token, group=group, group_src=src)


@dataclass(frozen=True)
class Gathering:
    """An all-gather under way; implements `Pending`."""

    transport: Distributed
    group: Group
    work: dist.Work
    own: Tensor
    parts: list[Tensor]

    def wait(self) -> list[Tensor]:
        """See `Pending.wait`."""
        with self.transport.naming_collective("all_gather", self.group):
            self.transport.wait(self.work)
        return self.parts


def _let_go(transport: "weakref.ref[Distributed]") -> None:
    """Forgets the groups when the process ends, so that `Mesh.close` really ends them."""
    if (held := transport()) is not None:
        held.groups.clear()
        del held.forward, held.backward


def _direction(mesh: Mesh) -> dist.ProcessGroup:
    """A further group over this process's pipeline; every process makes those of all replicas."""
    mine = None
    for row in mesh.device_mesh.mesh.tolist():
        group = dist.new_group(row)
        mine = group if dist.get_rank() in row else mine
    assert isinstance(mine, dist.ProcessGroup)
    return mine
