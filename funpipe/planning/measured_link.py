"""How long a message takes between two ranks."""

import torch
from torch import Tensor

from funpipe._typing import TensorType
from funpipe.backends.transport import Message, Transport
from funpipe.planning.measured_inputs import seconds

SMALL, LARGE = 64, 2**22
"""Bytes: a message that is all latency, and one that is all transfer."""

FIRST = 2**30
"""The id of the first message; programs count from 0."""

Link = tuple[float, float]
"""The latency in seconds, and the bandwidth in bytes per second."""


def link_of(transport: Transport | None, num_ranks: int = 1, device: str = "cpu") -> Link:
    """The link between the first two ranks of a pipeline, or the memory of one.

    Args:
        transport: between the ranks, which all call this; None: there is one.
        num_ranks: pipeline ranks.
        device: the type of the device that the tensors are on.
    """
    if transport is None or num_ranks < 2:
        small, large = (_copied(nbytes, device) for nbytes in (SMALL, LARGE))
    else:
        pairs = [_pair(nbytes, number, device) for number, nbytes in enumerate((SMALL, LARGE))]
        transport.open([message for pair in pairs for message in pair])
        small, large = (_sent(transport, *pair) for pair in pairs)
    return small, LARGE / max(large - small, 1e-9)


def _copied(nbytes: int, device: str) -> float:
    source, target = (torch.zeros(nbytes, dtype=torch.uint8, device=device) for _ in range(2))
    return seconds(lambda: target.copy_(source), device)


def _pair(nbytes: int, number: int, device: str) -> tuple[Message, Message]:
    """A message from rank 0 to rank 1, and one back."""
    kind = TensorType((nbytes,), (1,), torch.uint8, device)
    there, back = (Message(FIRST + 2 * number + k, k, 1 - k, kind, "measured") for k in (0, 1))
    return there, back


def _sent(transport: Transport, there: Message, back: Message) -> float:
    """Half the time that a message takes there and back; ranks beyond the second have nothing to do."""
    value = torch.zeros(there.type.shape, dtype=torch.uint8, device=there.type.device)
    if transport.rank == 0:
        return seconds(lambda: _exchange(transport, value, there, back, first=True), value.device.type) / 2
    if transport.rank == 1:
        return seconds(lambda: _exchange(transport, value, back, there, first=False), value.device.type) / 2
    return 0.0


def _exchange(transport: Transport, value: Tensor, sent: Message, received: Message, first: bool) -> None:
    transport.post_recv(received)
    if first:
        transport.send(value, sent)
    transport.wait_recv(received)
    if not first:
        transport.send(value, sent)
    transport.wait_send(sent)
