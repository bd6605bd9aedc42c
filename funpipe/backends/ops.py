"""Communication as operators of torch: what a compiled step calls, in an order that no compiler may change.

Every operator writes to one shared token tensor, so each depends on the one before it. The end of a send takes the sent
tensor, so that its memory lives until the bytes have left. They dispatch to the transport that `install` was given;
tracing and compiling run the fake forms only.
"""

from types import SimpleNamespace

import torch
from torch import Tensor

from funpipe.backends.installed import endpoint

NAMESPACE = "funpipe"
"""Below `torch.ops`; importing this module registers the operators there."""

_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")

_LIBRARY.define("send(Tensor x, Tensor(a!) token, int transport, int message) -> ()")
_LIBRARY.define("wait_send(Tensor x, Tensor(a!) token, int transport, int message) -> ()")
_LIBRARY.define("post_recv(Tensor(a!) token, int transport, int message) -> ()")
_LIBRARY.define(
    "wait_recv(Tensor(a!) token, int transport, int message, int[] shape, int[] stride, ScalarType dtype, "
    "Device device) -> Tensor"
)
_LIBRARY.define("all_reduce(Tensor(b!) x, Tensor(a!) token, int transport, str group) -> ()")

NAMES = ("send", "wait_send", "post_recv", "wait_recv", "all_reduce")
"""The operators, in `torch.ops.funpipe`."""


def _send(x: Tensor, token: Tensor, transport: int, message: int) -> None:
    end = endpoint(transport)
    end.transport.send(x, end.messages[message])


def _wait_send(x: Tensor, token: Tensor, transport: int, message: int) -> None:
    end = endpoint(transport)
    end.transport.wait_send(end.messages[message])


def _post_recv(token: Tensor, transport: int, message: int) -> None:
    end = endpoint(transport)
    end.transport.post_recv(end.messages[message])


def _wait_recv(
    token: Tensor,
    transport: int,
    message: int,
    shape: list[int],
    stride: list[int],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    end = endpoint(transport)
    return end.transport.wait_recv(end.messages[message])


def _all_reduce(x: Tensor, token: Tensor, transport: int, group: str) -> None:
    endpoint(transport).transport.all_reduce(x, group)  # type: ignore[arg-type]


def _nothing(*args: object) -> None:
    """The fake form of an operator that returns nothing."""


def _empty(
    token: Tensor,
    transport: int,
    message: int,
    shape: list[int],
    stride: list[int],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype, device=device)


for _name, _real in zip(NAMES, (_send, _wait_send, _post_recv, _wait_recv, _all_reduce), strict=True):
    _LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{_name}", _empty if _name == "wait_recv" else _nothing, lib=_LIBRARY)


OPERATORS = getattr(torch.ops, NAMESPACE)
"""The operators, for source that is compiled whole."""

DIRECT = SimpleNamespace(**dict(zip(NAMES, (_send, _wait_send, _post_recv, _wait_recv, _all_reduce), strict=True)))
"""The operators as plain functions, for source that no compiler reorders."""
