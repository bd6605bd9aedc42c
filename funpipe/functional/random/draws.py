"""Draws as single operators: one node of a traced graph each, which becomes integer operations when it is compiled.

What a traced function draws is a function of a key that the step gives it. Written out, one draw is two hundred
operators, which every part that reads a graph would go through; so each is one operator, and `WRITTEN_OUT` says what it
is made of.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from funpipe.functional.random.integers import permutation, randint
from funpipe.functional.random.normal import normal
from funpipe.functional.random.uniform import keep, uniform

_LIBRARY = torch.library.Library("funpipe", "FRAGMENT")

_AT = "SymInt[] shape, ScalarType dtype, Device device"
_BETWEEN = "SymInt[] shape, int low, int high, ScalarType dtype, Device device"
_LIBRARY.define("random_keep(Tensor key, SymInt[] shape, float p, Device device) -> Tensor")
_LIBRARY.define(f"random_uniform(Tensor key, {_AT}) -> Tensor")
_LIBRARY.define(f"random_normal(Tensor key, {_AT}) -> Tensor")
_LIBRARY.define(f"random_integers(Tensor key, {_BETWEEN}) -> Tensor")
_LIBRARY.define("random_permutation(Tensor key, SymInt count, Device device) -> Tensor")

KEEP = torch.ops.funpipe.random_keep.default
UNIFORM = torch.ops.funpipe.random_uniform.default
NORMAL = torch.ops.funpipe.random_normal.default
INTEGERS = torch.ops.funpipe.random_integers.default
PERMUTATION = torch.ops.funpipe.random_permutation.default


def _keep(key: Tensor, shape: Sequence[int], p: float, device: torch.device) -> Tensor:
    return keep(key, shape, p, device=device)


def _uniform(key: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return uniform(key, shape, dtype=dtype, device=device)


def _normal(key: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return normal(key, shape, dtype=dtype, device=device)


def _integers(
    key: Tensor, shape: Sequence[int], low: int, high: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return randint(key, shape, low, high, dtype=dtype, device=device)


def _permutation(key: Tensor, count: int, device: torch.device) -> Tensor:
    return permutation(key, count, device=device)


WRITTEN_OUT: dict[Any, Callable[..., Tensor]] = {
    KEEP: _keep,
    UNIFORM: _uniform,
    NORMAL: _normal,
    INTEGERS: _integers,
    PERMUTATION: _permutation,
}
"""What each operator is made of."""


def _type_of_keep(key: Tensor, shape: Sequence[int], p: float, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=torch.uint8, device=device)


def _type_of_floats(key: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def _type_of_integers(
    key: Tensor, shape: Sequence[int], low: int, high: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def _type_of_permutation(key: Tensor, count: int, device: torch.device) -> Tensor:
    return torch.empty(count, dtype=torch.int64, device=device)


_TYPES = {
    KEEP: _type_of_keep,
    UNIFORM: _type_of_floats,
    NORMAL: _type_of_floats,
    INTEGERS: _type_of_integers,
    PERMUTATION: _type_of_permutation,
}

for _operator, _function in WRITTEN_OUT.items():
    _name = _operator.name().removeprefix("funpipe::").removesuffix(".default")
    _LIBRARY.impl(_name, _function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"funpipe::{_name}", _TYPES[_operator], lib=_LIBRARY)
