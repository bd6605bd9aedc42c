"""What a graph's communication operators call at run time: a transport, and a plan's messages by their ids.

A start gives a tensor whose bytes are not there yet, and `wait` knows it again by its identity. So it may be waited for
in a later step than the one that started it, as a rotated step does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

from torch import Tensor

from funpipe._errors import CommunicationError
from funpipe.backends.transport import Collective, Group, Message, Reduction, Transport
from funpipe.runtime.transports.alone import Alone


@dataclass(frozen=True)
class Open:
    """One tensor that a start gave.

    Args:
        tensor: kept here, so that no other has its identity meanwhile.
        collective: which one it comes with.
    """

    tensor: Tensor
    collective: Collective


class TransportCommunicator:
    """Runs communication operators; implements `functional.communication.Communicator`.

    Args:
        transport: this rank's; None: it is alone, and every collective is a copy.
        messages: of the plan.

    Example:
        >>> import torch
        >>> from funpipe.functional.communication import OPERATORS, communicating
        >>> alone = TransportCommunicator()
        >>> with communicating(alone):
        ...     total = OPERATORS.all_reduce(torch.ones(2), "sum", "dp")
        ...     print(alone.pending)
        ...     print(OPERATORS.wait_tensor(total))
        1
        tensor([1., 1.])
        >>> alone.pending
        0
    """

    def __init__(self, transport: Transport | None = None, messages: Sequence[Message] = ()) -> None:
        self.transport: Transport = Alone() if transport is None else transport
        self.messages = {message.id: message for message in messages}
        self.open: dict[int, Open] = {}

    @property
    def pending(self) -> int:
        """How many tensors were started and not waited for."""
        return len(self.open)

    def forget(self) -> None:
        """Gives up what is pending; the other ranks' waits for it are not disturbed."""
        self.open.clear()

    def all_reduce(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        """See `Communicator.all_reduce`."""
        return self.all_reduce_coalesced([x], reduce, axis)[0]

    def all_reduce_coalesced(self, xs: Sequence[Tensor], reduce: str, axis: str) -> list[Tensor]:
        """See `Communicator.all_reduce_coalesced`."""
        if not xs:
            return []
        return self._opened(self.transport.all_reduce_start(xs, cast(Reduction, reduce), _group(axis)))

    def all_gather(self, x: Tensor, axis: str) -> Tensor:
        """See `Communicator.all_gather`."""
        return self._opened(self.transport.all_gather_into_start(x, _group(axis)))[0]

    def reduce_scatter(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        """See `Communicator.reduce_scatter`."""
        return self._opened(self.transport.reduce_scatter_start(x, cast(Reduction, reduce), _group(axis)))[0]

    def wait(self, x: Tensor) -> Tensor:
        """See `Communicator.wait`; the same tensor, filled.

        Raises:
            CommunicationError: no start of this communicator gave this tensor, or it was waited for before.
        """
        found = self.open.get(id(x))
        if found is None:
            raise CommunicationError(
                f"a tensor of shape {tuple(x.shape)} is waited for that is not pending ({self.pending} others are): "
                "either no collective of this communicator gave it, or it was waited for before. Wait once, for the "
                "very tensor that the start gave, not for a copy or a view."
            )
        found.collective.wait()
        del self.open[id(x)]
        return x

    def send(self, x: Tensor, message: int) -> None:
        """See `Communicator.send`."""
        self.transport.send(x, self._message(message))

    def wait_send(self, x: Tensor, message: int) -> None:
        """See `Communicator.wait_send`."""
        self.transport.wait_send(self._message(message))

    def post_recv(self, message: int) -> None:
        """See `Communicator.post_recv`."""
        self.transport.post_recv(self._message(message))

    def wait_recv(self, message: int) -> Tensor:
        """See `Communicator.wait_recv`."""
        return self.transport.wait_recv(self._message(message))

    def _opened(self, collective: Collective) -> list[Tensor]:
        """Remembers what a start gave."""
        for tensor in collective.results:
            self.open[id(tensor)] = Open(tensor, collective)
        return collective.results

    def _message(self, number: int) -> Message:
        try:
            return self.messages[number]
        except KeyError:
            raise CommunicationError(
                f"message {number} is not among the {len(self.messages)} messages of the plan: give the communicator "
                "those of the programs that the graph was made of, messages=programs.messages."
            ) from None


def _group(axis: str) -> Group:
    """The group of an axis."""
    if axis not in get_args(Group):
        raise CommunicationError(f"there is no mesh axis {axis!r}; use one of {', '.join(map(repr, get_args(Group)))}.")
    return cast(Group, axis)
