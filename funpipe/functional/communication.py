"""Communication as pure operators: what a traced step holds, and what runs it.

A collective is two operators. The first starts it and gives a value that is not there yet; `wait_tensor` gives the one
that is. What lies between them runs while the bytes are on their way:

    pending = all_reduce(gradient, "sum", "dp")
    ...
    total = wait_tensor(pending)

A start copies its argument, which may change or go afterwards. The operators carry names of mesh axes ("dp", "pp", or
"world" for both) and ids of messages; who moves the bytes is the communicator of the context, so that the same graph
runs in one process that plays all ranks, over a process group, or compiled. Tracing communicates nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.fx.node import has_side_effect

from funpipe._errors import CommunicationError

Axis = Literal["dp", "pp", "world"]
"""The ranks that take part: those of one replica axis, of one pipeline, or all."""

Reduction = Literal["sum", "max", "min"]
"""How the ranks' values are combined."""


class Communicator(Protocol):
    """Moves tensors between ranks. What a start gives is known by the identity of the tensor object."""

    def all_reduce(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        """Starts to combine the ranks' tensors."""
        ...

    def all_reduce_coalesced(self, xs: Sequence[Tensor], reduce: str, axis: str) -> list[Tensor]:
        """Starts to combine several tensors as one message; each result has a wait of its own."""
        ...

    def all_gather(self, x: Tensor, axis: str) -> Tensor:
        """Starts to put the ranks' tensors one after the other along their first dimension."""
        ...

    def reduce_scatter(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        """Starts to combine the ranks' tensors, of which each rank gets its share of the first dimension."""
        ...

    def wait(self, x: Tensor) -> Tensor:
        """Blocks until what a start gave is there."""
        ...

    def send(self, x: Tensor, message: int) -> None:
        """Starts to send."""
        ...

    def wait_send(self, x: Tensor, message: int) -> None:
        """Blocks until a sent tensor may be freed."""
        ...

    def post_recv(self, message: int) -> None:
        """Starts to receive."""
        ...

    def wait_recv(self, message: int) -> Tensor:
        """Blocks until a message is there."""
        ...


_communicator: ContextVar[Communicator | None] = ContextVar("communicator", default=None)


@contextmanager
def communicating(communicator: Communicator) -> Iterator[None]:
    """While open, the operators of this module go to a communicator.

    Args:
        communicator: moves the tensors.
    """
    token = _communicator.set(communicator)
    try:
        yield
    finally:
        _communicator.reset(token)


def communicator() -> Communicator:
    """The communicator of the context.

    Raises:
        CommunicationError: there is none.
    """
    found = _communicator.get()
    if found is None:
        raise CommunicationError(
            "a collective was called outside a step, where no other rank takes part: trace the step with "
            "fp.trace_step(step, state, batch, mesh=mesh) and run what fp.compile_step makes of it."
        )
    return found


NAMESPACE = "funpipe_collectives"
"""Below `torch.ops`; importing this module registers the operators there."""

_LIBRARY = torch.library.Library(NAMESPACE, "DEF")

_LIBRARY.define("all_reduce(Tensor x, str reduce, str axis) -> Tensor")
_LIBRARY.define("all_reduce_coalesced(Tensor[] xs, str reduce, str axis) -> Tensor[]")
_LIBRARY.define("all_gather(Tensor x, str axis, int size) -> Tensor")
_LIBRARY.define("reduce_scatter(Tensor x, str reduce, str axis, int size) -> Tensor")
_LIBRARY.define("wait_tensor(Tensor x) -> Tensor")
_LIBRARY.define("send(Tensor x, int message) -> ()")
_LIBRARY.define("wait_send(Tensor x, int message) -> ()")
_LIBRARY.define("post_recv(int message) -> ()")
_LIBRARY.define(
    "wait_recv(int message, int[] shape, int[] stride, ScalarType dtype, Device device) -> Tensor",
)

OPERATORS = getattr(torch.ops, NAMESPACE)
"""The operators: `OPERATORS.all_reduce.default` and so on."""

STARTS = (
    OPERATORS.all_reduce.default,
    OPERATORS.all_reduce_coalesced.default,
    OPERATORS.all_gather.default,
    OPERATORS.reduce_scatter.default,
)
"""Those that start a collective."""

WAIT = OPERATORS.wait_tensor.default
"""The end of a collective."""

MESSAGES = (
    OPERATORS.send.default,
    OPERATORS.wait_send.default,
    OPERATORS.post_recv.default,
    OPERATORS.wait_recv.default,
)
"""Those that carry a message between two ranks."""


def _all_gather(x: Tensor, axis: str, size: int) -> Tensor:
    return communicator().all_gather(x, axis)


def _reduce_scatter(x: Tensor, reduce: str, axis: str, size: int) -> Tensor:
    return communicator().reduce_scatter(x, reduce, axis)


def _wait_recv(message: int, shape: list[int], stride: list[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return communicator().wait_recv(message)


def _fake_rows(x: Tensor, rows: int) -> Tensor:
    return x.new_empty((rows, *x.shape[1:]))


def _fake_wait_recv(
    message: int, shape: list[int], stride: list[int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype, device=device)


def _nothing(*args: object) -> None:
    """The fake form of an operator that returns nothing."""


def _like(x: Tensor, *args: object) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


_FORMS = {
    "all_reduce": (lambda x, reduce, axis: communicator().all_reduce(x, reduce, axis), _like),
    "all_reduce_coalesced": (
        lambda xs, reduce, axis: communicator().all_reduce_coalesced(xs, reduce, axis),
        lambda xs, reduce, axis: [_like(x) for x in xs],
    ),
    "all_gather": (_all_gather, lambda x, axis, size: _fake_rows(x, size * x.shape[0])),
    "reduce_scatter": (_reduce_scatter, lambda x, reduce, axis, size: _fake_rows(x, x.shape[0] // size)),
    "wait_tensor": (lambda x: communicator().wait(x), _like),
    "send": (lambda x, message: communicator().send(x, message), _nothing),
    "wait_send": (lambda x, message: communicator().wait_send(x, message), _nothing),
    "post_recv": (lambda message: communicator().post_recv(message), _nothing),
    "wait_recv": (_wait_recv, _fake_wait_recv),
}
"""What each operator does, and its stand-in for tracing."""

for _operator in MESSAGES:
    has_side_effect(_operator)  # nothing may read what it gives, and yet another rank waits for it

for _name, (_real, _fake) in _FORMS.items():
    _LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{_name}", _fake, lib=_LIBRARY)
