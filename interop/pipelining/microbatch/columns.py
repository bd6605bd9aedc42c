"""One leaf of the outputs: its values in all microbatches, merged into one."""

from typing import Any

import torch
from torch import Tensor

from funpipe.interop.pipelining._utils import is_dtensor, to_local_if_dtensor
from funpipe.interop.pipelining.errors import PipeAssertionError, PipeRuntimeError, PipeTypeError
from funpipe.interop.pipelining.microbatch.dtensors import join_dtensors
from funpipe.interop.pipelining.microbatch.pairs import Pair
from funpipe.interop.pipelining.microbatch.reducers import _CustomReducer
from funpipe.interop.pipelining.microbatch.specs import TensorChunkSpec, replicates
from funpipe.interop.pipelining.microbatch.tensors import join_tensors


def merge_column(leaf: Pair, values: list[Any]) -> Any:
    """Merges the values of one leaf.

    Args:
        leaf: Its name, and its spec.
        values: One for each microbatch.

    Raises:
        PipeAssertionError: Values that must be the same differ.
        PipeRuntimeError: Tensors do not fit together.
        PipeTypeError: The spec is none, or joins what is no tensor.

    Example:
        >>> merge_column(Pair("y", None, TensorChunkSpec(0)), [torch.zeros(1), torch.ones(2)])
        tensor([0., 1., 1.])
    """
    spec = leaf.spec
    if isinstance(spec, _CustomReducer):
        return spec.fold(values)
    if isinstance(spec, TensorChunkSpec):
        return _joined(leaf.name, values, spec.split_dim)
    if spec is None and all(isinstance(value, Tensor) and not value.ndim for value in values):
        return torch.stack(values)  # a number of each microbatch, such as its loss
    if spec is None and any(isinstance(value, Tensor) for value in values):
        return _joined(leaf.name, values, 0)
    if spec is None or replicates(spec):
        return _common(leaf.name, values)
    raise PipeTypeError(
        f"the chunk spec of {leaf.name} is {spec!r}; pass a TensorChunkSpec, a _CustomReducer, _Replicate, or None."
    )


def _joined(name: str, values: list[Any], dim: int) -> Tensor:
    for i, value in enumerate(values):
        if not isinstance(value, Tensor):
            raise PipeTypeError(
                f"{name} of microbatch {i} is {value!r}, not a tensor, and cannot be joined; "
                f"return a tensor from every microbatch, or merge it with a _CustomReducer or _Replicate."
            )
        _check_fits(name, values[0], value, dim, i)
    return join_dtensors(values, dim) if any(map(is_dtensor, values)) else join_tensors(values, dim)


def _check_fits(name: str, first: Tensor, tensor: Tensor, dim: int, i: int) -> None:
    if not -tensor.ndim <= dim < tensor.ndim:
        raise PipeRuntimeError(
            f"{name} of microbatch {i} has shape {tuple(tensor.shape)}, and no dimension {dim} to join along; "
            f"merge it with sum_reducer, a _CustomReducer, or along a dimension that it has."
        )
    if _without(first, dim) != _without(tensor, dim):
        raise PipeRuntimeError(
            f"Sizes of tensors must match except in dimension {dim}: {name} has shape {tuple(first.shape)} in "
            f"microbatch 0 and {tuple(tensor.shape)} in microbatch {i}; return the same other sizes from both."
        )


def _without(tensor: Tensor, dim: int) -> list[int]:
    """The sizes of all other dimensions."""
    sizes = list(tensor.shape)
    if sizes:
        del sizes[dim % len(sizes)]
    return sizes


def _common(name: str, values: list[Any]) -> Any:
    """The one value of all microbatches."""
    for i, value in enumerate(values):
        if not _same(values[0], value):
            raise PipeAssertionError(
                f"Expected {values[0]}, got {value}: {name} of microbatches 0 and {i}; "
                f"return the same from every microbatch, or merge it with a _CustomReducer."
            )
    return values[0]


def _same(a: Any, b: Any) -> bool:
    if a is b or not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return a is b or a == b
    return type(a) is type(b) and a.shape == b.shape and torch.equal(to_local_if_dtensor(a), to_local_if_dtensor(b))
