"""The transport of a rank without others: collectives are copies, and there is nobody to send to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from funpipe._errors import TransportError
from funpipe.backends.transport import Group, Message, Reduction
from funpipe.runtime.transports import request
from funpipe.runtime.transports.arriving import Arriving
from funpipe.runtime.transports.collectives import copied


@dataclass(frozen=True)
class Gathered:
    """An all-gather of one tensor; implements `Pending`."""

    own: Tensor

    def wait(self) -> list[Tensor]:
        """See `Pending.wait`."""
        return [self.own]


class Alone:
    """One rank's transport where there is no other; implements `Transport`.

    Example:
        >>> Alone().all_reduce_start([torch.ones(2)], "sum", "world").wait()
        [tensor([1., 1.])]
    """

    rank = 0

    def open(self, messages: Iterable[Message]) -> None:
        """See `Transport.open`."""
        for message in messages:
            self.refuse(message)

    def send(self, tensor: Tensor, message: Message) -> None:
        """See `Transport.send`."""
        self.refuse(message)

    def wait_send(self, message: Message) -> None:
        """See `Transport.wait_send`."""
        self.refuse(message)

    def post_recv(self, message: Message) -> None:
        """See `Transport.post_recv`."""
        self.refuse(message)

    def wait_recv(self, message: Message) -> Tensor:
        """See `Transport.wait_recv`."""
        self.refuse(message)

    def refuse(self, message: Message) -> NoReturn:
        """Raises: a message needs two ranks."""
        raise TransportError(
            f"{message.label!r} goes from rank {message.src} to rank {message.dst}, but this process is alone: run it "
            "on a mesh of as many ranks, mesh=fp.mesh(pp=...)."
        )

    def all_reduce(self, tensor: Tensor, group: Group) -> None:
        """See `Transport.all_reduce`."""

    def broadcast(self, tensor: Tensor, src: int, group: Group) -> None:
        """See `Transport.broadcast`."""

    def all_gather_start(self, tensor: Tensor, group: Group) -> Gathered:
        """See `Transport.all_gather_start`."""
        return Gathered(tensor.detach().clone(memory_format=torch.contiguous_format))

    def all_reduce_start(self, tensors: Sequence[Tensor], reduce: Reduction, group: Group) -> Arriving:
        """See `Transport.all_reduce_start`."""
        return copied(request.all_reduce(tensors, reduce, 1, 0), tensors)

    def all_gather_into_start(self, tensor: Tensor, group: Group) -> Arriving:
        """See `Transport.all_gather_into_start`."""
        return copied(request.all_gather(tensor, 1, 0), [tensor])

    def reduce_scatter_start(self, tensor: Tensor, reduce: Reduction, group: Group) -> Arriving:
        """See `Transport.reduce_scatter_start`."""
        return copied(request.reduce_scatter(tensor, reduce, 1, 0), [tensor])
