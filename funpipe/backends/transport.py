"""What the communication ops of a compiled step dispatch to: the interface of a transport."""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

from funpipe.programs.instructions import Group as Group
from funpipe.programs.message import Message as Message


class Pending(Protocol):
    """The end of an `all_gather_start`."""

    def wait(self) -> list[Tensor]:
        """Blocks; returns every rank's tensor in the group's order."""
        ...


class Transport(Protocol):
    """Moves tensors between the ranks; what each call waits for is what the verifier of programs assumes."""

    @property
    def rank(self) -> int:
        """This process's pipeline (pp) rank."""
        ...

    def open(self, messages: Iterable[Message]) -> None:
        """Opens the ways that messages need, before the first of them is sent; all ranks call it alike.

        Args:
            messages: of a plan, those between other ranks among them; what is open already stays so.
        """
        ...

    def send(self, tensor: Tensor, message: Message) -> None:
        """Starts a transfer and returns; the tensor must stay untouched until `wait_send`."""
        ...

    def wait_send(self, message: Message) -> None:
        """Blocks until the peer has executed `post_recv` and the bytes have left the sent tensor."""
        ...

    def post_recv(self, message: Message) -> None:
        """Allocates the buffer and starts receiving; returns at once."""
        ...

    def wait_recv(self, message: Message) -> Tensor:
        """Blocks until the peer has executed `send`; returns the filled buffer, with the strides of the type."""
        ...

    def all_reduce(self, tensor: Tensor, group: Group) -> None:
        """Sums in place over the group; the same bits on every rank."""
        ...

    def broadcast(self, tensor: Tensor, src: int, group: Group) -> None:
        """Overwrites the tensor with that of the group's rank `src`."""
        ...

    def all_gather_start(self, tensor: Tensor, group: Group) -> Pending:
        """Starts gathering one tensor of the same shape from each rank; the tensor may change after the call."""
        ...
