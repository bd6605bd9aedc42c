"""The way back: values of a parameter dict into the module that they came from."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from funpipe._errors import TreeError
from funpipe.functional.functionalize import functionalize
from funpipe.functional.tree import check_same, types_of

M = TypeVar("M", bound=nn.Module)


def restore(module: M, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> M:
    """Copies parameters and buffers into a module, in place.

    Everything is checked before anything is copied. A tied parameter is written once, and all of its names see it.

    Args:
        module: The module, or another one of the same architecture.
        params: A value for each parameter, under the names that `functionalize` gives; on any device.
        buffers: A value for each buffer.

    Returns:
        The module itself.

    Raises:
        TreeError: A name is missing or unknown, a shape or dtype differs, or a tensor has no memory (`meta`).

    Example:
        >>> module = nn.Linear(3, 2)
        >>> _, params, buffers = functionalize(module)
        >>> zeros = {name: torch.zeros_like(p) for name, p in params.items()}
        >>> restore(module, zeros, buffers).bias
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """
    apply, own_params, own_buffers = functionalize(module)
    for what, own, given in (("params", own_params, params), ("buffers", own_buffers, buffers)):
        check_same(types_of(own), dict(given), what, apply.aliases)
        _check_memory(what, own, given)
    with torch.no_grad():
        for own, given in ((own_params, params), (own_buffers, buffers)):
            for name, tensor in own.items():
                tensor.copy_(given[name])
    return module


def _check_memory(what: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raises where a copy would read or write a tensor that has no memory."""
    for name in own:
        if own[name].is_meta:
            raise TreeError(
                f"module: {name!r} is on the meta device and holds no values; "
                f"call module.to_empty(device=...) before restore."
            )
        if given[name].is_meta:
            raise TreeError(f"{what}: {name!r} is on the meta device and holds no values; pass a real tensor.")
