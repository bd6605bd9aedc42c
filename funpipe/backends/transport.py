"""What the communication ops of a compiled step dispatch to: the interface of a transport."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor

from funpipe.functional.communication import Reduction as Reduction
from funpipe.programs.instructions import Group as Group
from funpipe.programs.message import Message as Message


class Pending(Protocol):
    """The end of an `all_gather_start`."""

    def wait(self) -> list[Tensor]:
        """Blocks; returns every rank's tensor in the group's order."""
        ...


class Collective(Protocol):
    """A collective under way, on the transports that start one."""

    @property
    def results(self) -> list[Tensor]:
        """Contiguous tensors of the types that come, to be read after `wait`; known from the start."""
        ...

    def wait(self) -> list[Tensor]:
        """Blocks until the results are there; returns them. Another call returns them at once."""
        ...


class Transport(Protocol):
    """Moves tensors between the ranks; what each call waits for is what the verifier of programs assumes.

    Starts of collectives never block. All ranks of a group start the same ones in the same order, and may wait for them
    in any order, or never.
    """

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

    def all_reduce_start(self, tensors: Sequence[Tensor], reduce: Reduction, group: Group) -> Collective:
        """Starts to combine each of several tensors over the group; the same bits on every rank.

        Args:
            tensors: of any dtypes and strides; they may change after the call.
            reduce: `"sum"`, `"max"` or `"min"`.
            group: who takes part, each with tensors of the same shapes and dtypes.
        """
        ...

    def all_gather_into_start(self, tensor: Tensor, group: Group) -> Collective:
        """Starts to put the ranks' tensors one after the other along the first dimension: one result.

        Args:
            tensor: of the same shape and dtype on every rank; it may change after the call.
            group: who takes part.
        """
        ...

    def reduce_scatter_start(self, tensor: Tensor, reduce: Reduction, group: Group) -> Collective:
        """Starts to combine the ranks' tensors, of which each rank gets its share of the first dimension: one result.

        Args:
            tensor: of the same shape and dtype on every rank, with a first dimension that the ranks divide; it may
                change after the call.
            reduce: `"sum"`, `"max"` or `"min"`.
            group: who takes part.
        """
        ...
