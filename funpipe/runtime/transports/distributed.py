"""The transport of ranks that are processes: through shared memory between those of one host, else the network."""

import atexit
import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe.backends.transport import Group, Message, Reduction
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.transports import collectives, failures, gathers, request, wire
from funpipe.runtime.transports.arriving import Arriving
from funpipe.runtime.transports.memory import LARGEST
from funpipe.runtime.transports.network import Network, Started, wait
from funpipe.runtime.transports.one_number import NumbersFarAway, NumbersNearby
from funpipe.runtime.transports.recycled import Recycled
from funpipe.runtime.transports.same_host import neighbours
from funpipe.runtime.transports.shared_memory import Coming, Leaving, SharedMemory

_LAST_WORDS = 10.0
"""Seconds that a transport takes at most at its end to send what there was no room for."""


class Distributed:
    """One rank's transport; implements `Transport`, whose methods say what each call waits for.

    Every process of the mesh makes its own, all of them at the same point of the program. Between ranks that share a
    host, messages of up to `memory.LARGEST` bytes and collectives go through shared memory unless the mesh says no.

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
        self.timeout = mesh.timeout
        world = mesh.world
        names: tuple[Group, Group] = ("pp", "dp")
        self.groups: dict[Group, dist.ProcessGroup] = {
            "world": world,
            **{name: mesh.device_mesh.get_group(name) for name in names},
        }
        self.ranks = {name: dist.get_process_group_ranks(group) for name, group in self.groups.items()}
        near = neighbours(mesh)
        self.near = SharedMemory(dist.get_rank(), near.channels, self.ranks["pp"])
        self.network = Network(mesh, self.groups["pp"], self.near)
        self.meeting = {name for name, ranks in self.ranks.items() if len(ranks) > 1 and near.all_meet(ranks)}
        near_numbers = NumbersNearby(self.near, self.ranks["world"])
        self.numbers = near_numbers if "world" in self.meeting else NumbersFarAway(_control(mesh, world), self.near)
        self.sent: dict[int, deque[Leaving | Started]] = defaultdict(deque)
        self.posted: dict[int, deque[Coming | Started]] = defaultdict(deque)
        self.memory = Recycled()
        self.lag = 0.0
        self.carriers: dict[int, tuple[Message, SharedMemory | Network]] = {}
        self.given_up: BaseException | None = None
        weakref.finalize(self, _end, self.near)
        atexit.register(_let_go, weakref.ref(self))  # before `Mesh.close`, which was registered earlier

    def open(self, messages: Iterable[Message]) -> None:
        """See `Transport.open`."""
        try:
            self.network.open(messages)
        except (RuntimeError, OSError) as error:
            self.fail_collective("opening communicators", "world", error)

    def send(self, tensor: Tensor, message: Message) -> None:
        """See `Transport.send`."""
        carrier = self._carrier(message, message.src, "sent")
        wire.check_sent(tensor, message, self.rank)
        try:
            started = carrier.send(wire.laid_out(tensor, message.type), message)
        except (RuntimeError, OSError) as error:
            self._fail(message, error)
        self.sent[message.id].append(started)

    def wait_send(self, message: Message) -> None:
        """See `Transport.wait_send`."""
        started = wire.oldest(self.sent, message, self.rank, "send")
        try:
            started.wait(self.timeout)
        except (RuntimeError, OSError) as error:
            self._fail(message, error)

    def post_recv(self, message: Message) -> None:
        """See `Transport.post_recv`."""
        carrier = self._carrier(message, message.dst, "received")
        try:
            started = carrier.post_recv(message)
        except (RuntimeError, OSError) as error:
            self._fail(message, error)
        self.posted[message.id].append(started)

    def wait_recv(self, message: Message) -> Tensor:
        """See `Transport.wait_recv`."""
        started = wire.oldest(self.posted, message, self.rank, "post_recv")
        try:
            return started.wait(self.timeout)
        except (RuntimeError, OSError) as error:
            self._fail(message, error)

    def all_reduce(self, tensor: Tensor, group: Group) -> None:
        """See `Transport.all_reduce`; sums of one host are added in the order of the ranks."""
        whole = tensor.detach().contiguous()
        if self.lag == 0 and group in self.meeting and tensor.nbytes <= collectives.LENT_FROM:
            total, *others = gathers.start(self, whole.clone(), group, None, "all_reduce").wait()
            for other in others:
                total = total + other
            tensor.detach().copy_(total)
            return
        if group in self.meeting or self.lag:
            wanted = request.all_reduce([whole], "sum", *self._place(group))
            collectives.start(self, wanted, [whole], group, wire.as_bytes(whole)).wait()
        else:
            self._sum_far(whole, group)
        if whole.data_ptr() != tensor.data_ptr():
            tensor.detach().copy_(whole)

    def _sum_far(self, whole: Tensor, group: Group) -> None:
        self.require_whole()
        try:
            self._wait(self.groups[group].allreduce([wire.flat(whole)]), group)
        except (RuntimeError, OSError) as error:
            self.fail_collective("all_reduce", group, error)

    def broadcast(self, tensor: Tensor, src: int, group: Group) -> None:
        """See `Transport.broadcast`."""
        self.require_whole()
        whole = tensor.detach().contiguous()
        try:
            work = dist.broadcast(wire.as_bytes(whole), group=self.groups[group], group_src=src, async_op=True)
            self._wait(work, group)
        except (RuntimeError, OSError) as error:
            self.fail_collective("broadcast", group, error)
        if whole.data_ptr() != tensor.data_ptr():
            tensor.detach().copy_(whole)

    def all_gather_start(
        self, tensor: Tensor, group: Group, makers: Sequence[int] | None = None
    ) -> gathers.Gathering | gathers.Met:
        """See `Transport.all_gather_start`.

        Args:
            tensor: of the same type on every rank.
            group: who takes part.
            makers: the group's ranks whose tensors are wanted, the same on all; of others anything may come.
        """
        own = tensor.detach().clone(memory_format=torch.contiguous_format)
        return gathers.start(self, own, group, makers)

    def all_reduce_start(self, tensors: Sequence[Tensor], reduce: Reduction, group: Group) -> Arriving:
        """See `Transport.all_reduce_start`."""
        return collectives.start(self, request.all_reduce(tensors, reduce, *self._place(group)), tensors, group)

    def all_gather_into_start(self, tensor: Tensor, group: Group) -> Arriving:
        """See `Transport.all_gather_into_start`."""
        return collectives.start(self, request.all_gather(tensor, *self._place(group)), [tensor], group)

    def reduce_scatter_start(self, tensor: Tensor, reduce: Reduction, group: Group) -> Arriving:
        """See `Transport.reduce_scatter_start`."""
        return collectives.start(self, request.reduce_scatter(tensor, reduce, *self._place(group)), [tensor], group)

    def tell_number(self, number: int) -> None:
        """Starts gathering one number from every rank of the mesh; `numbers_told` ends it before the next.

        Args:
            number: of 64 bits, with sign.
        """
        self.require_whole()
        try:
            self.numbers.start(number)
        except (RuntimeError, OSError) as error:
            self.fail_collective("the agreement on a step", "world", error)

    def numbers_told(self) -> list[int]:
        """Blocks until every rank has told its number; in the order of the global ranks."""
        try:
            return self.numbers.wait(self.timeout)
        except (RuntimeError, OSError) as error:
            self.fail_collective("the agreement on a step", "world", error)

    @property
    def alone(self) -> bool:
        """Whether there is no other rank."""
        return len(self.ranks["world"]) == 1

    def give_up(self, error: BaseException) -> None:
        """Refuses everything from now on: a step ended in its middle, and its messages would pair with later ones.

        Ranks of this host that wait for this one learn it at once.

        Args:
            error: what ended the step.
        """
        self.given_up = self.given_up or error
        self.near.listening.hang_up()

    def require_whole(self) -> None:
        """Raises if a step ended in its middle."""
        if self.given_up is not None:
            raise failures.unfinished(self.given_up) from self.given_up

    def _carrier(self, message: Message, end: int, verb: str) -> SharedMemory | Network:
        """What carries a message; checked when the message is first seen."""
        if self.given_up is not None or end != self.rank:
            self.require_whole()
            wire.check_end(message, self.rank, end, verb)
        known = self.carriers.get(message.id)
        if known is None or known[0] is not message:
            wire.check_end(message, self.rank, end, verb)
            small = message.type.nbytes <= LARGEST
            near = small and self.near.reaches(message.dst if self.rank == message.src else message.src)
            known = self.carriers[message.id] = message, self.near if near else self.network
        return known[1]

    def wait_works(self, works: Sequence[dist.Work | None], group: Group) -> None:
        """Blocks until collectives of torch are over."""
        for work in works:
            self._wait(work, group)

    def _place(self, group: Group) -> tuple[int, int]:
        """How many ranks a group has, and this one's place."""
        ranks = self.ranks[group]
        return len(ranks), ranks.index(dist.get_rank())

    def _wait(self, work: dist.Work | None, group: Group) -> None:
        assert work is not None
        self.near.listening.beside(lambda: wait(work, self.timeout, self.mesh.device.type == "cuda"), self.ranks[group])

    def _fail(self, message: Message, error: BaseException) -> NoReturn:
        """Turns a backend's error into one that names the message and the peer."""
        if "timed out" in str(error).lower():
            raise failures.late(message, self.rank, self.timeout) from error
        raise failures.broken(message, self.rank, error) from error

    def fail_collective(self, what: str, group: Group, error: BaseException) -> NoReturn:
        """Turns a backend's error into one that names the collective and its ranks."""
        raise failures.collective_failed(what, dist.get_rank(), group, self.ranks[group], error) from error


def _control(mesh: Mesh, world: dist.ProcessGroup) -> dist.ProcessGroup:
    """All ranks, for what the host has to know: CPU tensors on GPUs too, or each step would wait for the one before."""
    if mesh.device.type == "cpu":
        return world
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=mesh.timeout))
    assert isinstance(group, dist.ProcessGroup)
    return group


def _end(near: SharedMemory) -> None:
    """Ends the channels; others still get what they wait for."""
    near.listening.flush(_LAST_WORDS)
    near.close()


def _let_go(transport: "weakref.ref[Distributed]") -> None:
    """Forgets the groups when the process ends, so that `Mesh.close` really ends them."""
    if (held := transport()) is not None:
        held.groups.clear()
        held.network.close()
        del held.numbers
