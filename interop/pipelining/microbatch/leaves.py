"""Along which dimension a leaf is cut, and into how many chunks it can be."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from funpipe.interop.pipelining._utils import is_dtensor
from funpipe.interop.pipelining.errors import (
    PipeAssertionError,
    PipeIndexError,
    PipeRuntimeError,
    PipeValueError,
)
from funpipe.interop.pipelining.microbatch.block_mask import _split_block_mask, is_block_mask
from funpipe.interop.pipelining.microbatch.dtensors import split_dtensor
from funpipe.interop.pipelining.microbatch.pairs import Pair
from funpipe.interop.pipelining.microbatch.shards import shards
from funpipe.interop.pipelining.microbatch.specs import TensorChunkSpec, replicates
from funpipe.interop.pipelining.microbatch.tensors import split_tensor


@dataclass(frozen=True)
class Leaf:
    """One leaf, how a message calls it, and the dimension of its rows; None: every chunk has all of it."""

    name: str
    value: Any
    dim: int | None

    def rows(self) -> int | None:
        """The most chunks it can be cut into; None for any number."""
        if self.dim is None or (is_block_mask(self.value) and self.value.shape[0] == 1):
            return None
        if is_dtensor(self.value):
            return min(shards(self.value.size(self.dim), self.value, self.dim))
        return self.value.shape[self.dim]

    def split(self, count: int) -> list[Any]:
        """Its chunks.

        Args:
            count: How many; at most as many as rows.
        """
        if self.dim is None:
            return [self.value] * count
        if is_block_mask(self.value):
            return _split_block_mask(self.value, count)
        if is_dtensor(self.value):
            return split_dtensor(self.value, self.dim, count, self.name)
        return split_tensor(self.value, self.dim, count)


def leaf_of(pair: Pair) -> Leaf:
    """Settles what is to be done with a leaf.

    Args:
        pair: The leaf and its spec.

    Raises:
        PipeAssertionError: The spec is none, or asks for another dimension of a `BlockMask` than its batch.
        PipeIndexError: The tensor has no such dimension.
        PipeRuntimeError: The tensor has no rows.
        PipeValueError: The value cannot be cut.
    """
    leaf = Leaf(pair.name, pair.value, _dim(pair))
    if leaf.rows() == 0:
        raise PipeRuntimeError(
            f"{leaf.name} has no rows to cut along dimension {leaf.dim}{_where(leaf)}; "
            f"pass at least one row, or give it the spec _Replicate."
        )
    return leaf


def _where(leaf: Leaf) -> str:
    """Where the rows are missing, for the message."""
    if leaf.dim is not None and is_dtensor(leaf.value):
        return f" on some ranks: it is sharded to {shards(leaf.value.size(leaf.dim), leaf.value, leaf.dim)}"
    return f": its shape is {tuple(leaf.value.shape)}"


def _dim(pair: Pair) -> int | None:
    name, value, spec = pair.name, pair.value, pair.spec
    if spec is None:
        return 0 if is_block_mask(value) or (isinstance(value, Tensor) and value.ndim) else None
    if replicates(spec):
        return None
    if not isinstance(spec, TensorChunkSpec):
        raise PipeAssertionError(
            f"Expected TensorChunkSpec, got {type(spec)} for {name}; pass a TensorChunkSpec, _Replicate, or None."
        )
    return _checked(name, value, spec.split_dim)


def _checked(name: str, value: Any, dim: int) -> int:
    """The dimension, if the value has it."""
    if is_block_mask(value):
        if dim != 0:
            raise PipeAssertionError(
                f"BlockMask only supports split_dim=0, got {dim} for {name}; pass TensorChunkSpec(0)."
            )
    elif not isinstance(value, Tensor):
        raise PipeValueError(
            f"Unsupported chunk spec: TensorChunkSpec({dim}) and value: {value!r} combination, for {name}; "
            f"give it the spec _Replicate."
        )
    elif not -value.ndim <= dim < value.ndim:
        raise PipeIndexError(
            f"{name} has no dimension {dim}: its shape is {tuple(value.shape)}; "
            + (f"use a dimension from 0 to {value.ndim - 1}." if value.ndim else "give it the spec _Replicate.")
        )
    return dim
