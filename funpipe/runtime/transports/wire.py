"""A tensor as bytes on the wire: its elements in the order of its storage, whatever its dtype and strides.

Sending bytes keeps every dtype out of the backends' hands (gloo and NCCL each lack some), and sending storage order
means that a transposed tensor arrives transposed without a copy on either side.
"""

from collections import deque
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from funpipe._errors import TransportError
from funpipe._typing import TensorType
from funpipe.backends.transport import Message

T = TypeVar("T")


@cache
def is_dense(type: TensorType) -> bool:
    """Whether the strides put the elements next to each other, in any order, without gaps or overlaps."""
    if type.numel == 0:
        return True
    expected = 1
    for stride, size in sorted((st, n) for n, st in zip(type.shape, type.stride, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def empty(type: TensorType) -> Tensor:
    """A new tensor of this type."""
    return torch.empty_strided(type.shape, type.stride, dtype=type.dtype, device=type.device)


def flat(tensor: Tensor) -> Tensor:
    """A one-dimensional view of a dense tensor, in the order of its storage."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def as_bytes(tensor: Tensor) -> Tensor:
    """A flat uint8 view of a dense tensor; for one without elements a byte of its own, so that the ranks still meet."""
    if tensor.numel() == 0:
        return torch.zeros(1, dtype=torch.uint8, device=tensor.device)
    if tensor.dtype == torch.uint8 and tensor.stride() == (1,):
        return tensor.detach()
    return flat(tensor).view(torch.uint8)


def typed(raw: Tensor, type: TensorType) -> Tensor:
    """The inverse of `as_bytes`: a dense tensor's elements, read as another type.

    Raises:
        RuntimeError: it has another number of bytes.
    """
    if raw.nbytes != type.nbytes and type.numel > 0:
        raise RuntimeError(f"{raw.nbytes} bytes came, not the {type.nbytes} of {type}")
    if type.numel == 0:
        return empty(type)
    return flat(raw).view(torch.uint8).view(type.dtype).as_strided(type.shape, type.stride)


def laid_out(tensor: Tensor, type: TensorType) -> Tensor:
    """The tensor itself where its elements already lie as the type says, otherwise a copy that does."""
    if tensor.stride() == type.stride:
        return tensor.detach() if tensor.requires_grad else tensor
    strides = zip(type.shape, tensor.stride(), type.stride, strict=True)
    if type.numel == 0 or all(ours == theirs for size, ours, theirs in strides if size > 1):
        return tensor.detach()
    return empty(type).copy_(tensor.detach())


def check_sent(tensor: Tensor, message: Message, rank: int) -> None:
    """Raises unless the tensor has the message's type (strides may differ)."""
    if tensor.dtype != message.type.dtype or tensor.shape != message.type.shape:
        raise TransportError(
            f"rank {rank} sends {TensorType.of(tensor)} as {message.label!r}, but the plan says {message.type}: "
            "the value changed its type since the program was made; build the step again with this batch"
        )


def check_end(message: Message, rank: int, expected: int, verb: str) -> None:
    """Raises unless this rank is the end of the message that the call is for, and its type can travel."""
    if rank != expected:
        raise TransportError(
            f"{message.label!r} must be {verb} by rank {expected}, but rank {rank} did it: "
            "give each rank its own program, programs[rank]"
        )
    if not is_dense(message.type):
        raise TransportError(
            f"{message.label!r} has shape {message.type.shape} and strides {message.type.stride}, which leave gaps or "
            "overlap: make the value contiguous before it is sent"
        )


def oldest(started: dict[int, deque[T]], message: Message, rank: int, call: str) -> T:
    """Takes the first started transfer of this message that nobody has waited for."""
    if not started.get(message.id):
        raise TransportError(
            f"rank {rank} waits for {message.label!r} (message {message.id}), but never started it; "
            f"call {call} first, once for each wait"
        )
    return started[message.id].popleft()
