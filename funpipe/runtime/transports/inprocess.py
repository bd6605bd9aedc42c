"""The transport of ranks that are threads of one process."""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from funpipe._errors import TransportError
from funpipe.backends.transport import Group, Message, Reduction
from funpipe.runtime.transports import request, wire
from funpipe.runtime.transports.arriving import Arriving
from funpipe.runtime.transports.collectives import copied, is_copy
from funpipe.runtime.transports.gathering import Call, Gathering
from funpipe.runtime.transports.mailboxes import Mailboxes, Transfer
from funpipe.runtime.transports.request import Request
from funpipe.runtime.transports.waiting import Room


class InProcess:
    """Connects the pipeline ranks of one process, one thread each.

    Args:
        num_ranks: number of pipeline ranks; one process holds no replicas, so the group "dp" is a rank alone.
        timeout: seconds that one wait may last.

    Example:
        >>> from funpipe._typing import TensorType
        >>> hub = InProcess(2)
        >>> first, second = hub.endpoint(0), hub.endpoint(1)
        >>> x = torch.arange(3.0)
        >>> message = Message(0, src=0, dst=1, type=TensorType.of(x), label="F 0->1 mb 0 value x")
        >>> first.send(x, message)
        >>> second.post_recv(message)
        >>> first.wait_send(message)
        >>> second.wait_recv(message)
        tensor([0., 1., 2.])
    """

    def __init__(self, num_ranks: int, timeout: float = 600.0) -> None:
        self.num_ranks = num_ranks
        self.room = Room(timeout)
        self.mailboxes = Mailboxes(self.room)
        self.gathering = Gathering(self.room, num_ranks)

    def endpoint(self, rank: int) -> "Endpoint":
        """The transport of one rank.

        Args:
            rank: 0 to num_ranks - 1; ask once for each.

        Returns:
            Its end, for the thread that plays this rank.

        Raises:
            TransportError: there is no such rank.
        """
        if not 0 <= rank < self.num_ranks:
            raise TransportError(f"there is no rank {rank}; ask for one from 0 to {self.num_ranks - 1}")
        return Endpoint(self, rank)


class Endpoint:
    """One rank's end of an `InProcess`; implements `Transport`, whose methods say what each call waits for."""

    def __init__(self, hub: InProcess, rank: int) -> None:
        self.hub = hub
        self.rank = rank
        self.sent: dict[int, deque[Transfer]] = defaultdict(deque)
        self.posted: dict[int, deque[Transfer]] = defaultdict(deque)
        self.num_collectives: dict[Group, int] = defaultdict(int)

    def fail(self, error: BaseException) -> None:
        """Ends every other rank's waits with an error that names this one.

        Args:
            error: why this rank cannot go on.
        """
        self.hub.room.fail(self.rank, error)

    def open(self, messages: Iterable[Message]) -> None:
        """See `Transport.open`; threads need no way to each other."""

    def send(self, tensor: Tensor, message: Message) -> None:
        """See `Transport.send`."""
        wire.check_end(message, self.rank, message.src, "sent")
        wire.check_sent(tensor, message, self.rank)
        self.sent[message.id].append(self.hub.mailboxes.join(message, "source", tensor.detach()))

    def wait_send(self, message: Message) -> None:
        """See `Transport.wait_send`."""
        transfer = wire.oldest(self.sent, message, self.rank, "send")
        self.hub.mailboxes.finish(transfer, message, self.rank)

    def post_recv(self, message: Message) -> None:
        """See `Transport.post_recv`."""
        wire.check_end(message, self.rank, message.dst, "received")
        self.posted[message.id].append(self.hub.mailboxes.join(message, "buffer", wire.empty(message.type)))

    def wait_recv(self, message: Message) -> Tensor:
        """See `Transport.wait_recv`."""
        transfer = wire.oldest(self.posted, message, self.rank, "post_recv")
        self.hub.mailboxes.finish(transfer, message, self.rank)
        assert transfer.buffer is not None
        return transfer.buffer

    def all_reduce(self, tensor: Tensor, group: Group) -> None:
        """See `Transport.all_reduce`; adds in the order of the ranks."""
        total, *others = self.gather(tensor, "all_reduce", group).wait()
        for other in others:
            total = total + other
        with torch.no_grad():
            tensor.copy_(total)

    def broadcast(self, tensor: Tensor, src: int, group: Group) -> None:
        """See `Transport.broadcast`."""
        with torch.no_grad():
            tensor.copy_(self.gather(tensor, "broadcast", group).wait()[src])

    def all_gather_start(self, tensor: Tensor, group: Group) -> "Gathered":
        """See `Transport.all_gather_start`."""
        return self.gather(tensor, "all_gather", group)

    def all_reduce_start(self, tensors: Sequence[Tensor], reduce: Reduction, group: Group) -> Arriving:
        """See `Transport.all_reduce_start`."""
        return self._start(request.all_reduce(tensors, reduce, *self._place(group)), tensors, group)

    def all_gather_into_start(self, tensor: Tensor, group: Group) -> Arriving:
        """See `Transport.all_gather_into_start`."""
        return self._start(request.all_gather(tensor, *self._place(group)), [tensor], group)

    def reduce_scatter_start(self, tensor: Tensor, reduce: Reduction, group: Group) -> Arriving:
        """See `Transport.reduce_scatter_start`."""
        return self._start(request.reduce_scatter(tensor, reduce, *self._place(group)), [tensor], group)

    def _place(self, group: Group) -> tuple[int, int]:
        """How many ranks a group has, and this one's place."""
        return (1, 0) if group == "dp" else (self.hub.num_ranks, self.rank)

    def _start(self, wanted: Request, tensors: Sequence[Tensor], group: Group) -> Arriving:
        """Lays this rank's tensors down; the wait reads the others'."""
        if is_copy(wanted):
            return copied(wanted, tensors)
        sizes, device = (wanted.given.nbytes, wanted.results.nbytes), tensors[0].device
        part, out = (torch.empty(size, dtype=torch.uint8, device=device) for size in sizes)
        wanted.given.put(tensors, part)
        gathered = self.gather(part, wanted.what, group, wanted.form)
        return Arriving(wanted.results.views(out), lambda: wanted.fill(gathered.wait(), out))

    def gather(self, tensor: Tensor, kind: str, group: Group, form: int = 0) -> "Gathered":
        """Lays down this rank's tensor for the next collective; see `Request.form`."""
        if group == "dp":
            return Gathered(self, None, tensor.detach().clone())
        self.num_collectives[group] += 1
        call = Call(kind, self.num_collectives[group], group, form)
        self.hub.gathering.lay(call, self.rank, tensor)
        return Gathered(self, call, tensor)


@dataclass(frozen=True)
class Gathered:
    """A collective that this rank has joined; alone in its group when there is no call."""

    endpoint: Endpoint
    call: Call | None
    own: Tensor

    def wait(self) -> list[Tensor]:
        """See `Pending.wait`."""
        if self.call is None:
            return [self.own]
        return [t.clone() for t in self.endpoint.hub.gathering.read(self.call, self.endpoint.rank)]
