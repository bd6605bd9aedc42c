"""Which dimension of each leaf of a batch counts its rows: a prefix tree of dimensions resolved against a batch.

A spec is `int | None`, or a pytree of them that the batch's structure begins with: `{"x": 0, "mask": None}` for
`{"x": [a, b], "mask": m}` says that `a` and `b` have their rows along dimension 0, and that `m` is replicated: every
microbatch gets all of it.
"""

from dataclasses import dataclass
from typing import Any

import optree
import torch
from optree import PyTreeSpec

from funpipe._errors import BatchError
from funpipe._typing import Tree
from funpipe.functional.tree import leaf_name, place, type_text


@dataclass(frozen=True)
class BatchLeaf:
    """A leaf of a batch: its name, its value, and its batch dimension (>= 0), `None` where it is replicated."""

    name: str
    value: Any
    dim: int | None

    @property
    def rows(self) -> int | None:
        """The number of rows, `None` for a replicated leaf."""
        return None if self.dim is None else self.value.shape[self.dim]

    def __str__(self) -> str:
        return f"{place(self.name)} ({type_text(self.value)})"


def resolve(batch: Tree, spec: Tree = 0) -> tuple[list[BatchLeaf], PyTreeSpec]:
    """Gives each leaf of a batch its batch dimension.

    Args:
        batch: A pytree; leaves with a batch dimension are tensors, replicated leaves anything.
        spec: A prefix tree of `int | None`; negative dimensions count from the end.

    Returns:
        The leaves in tree order, and the structure of the batch. `None` in a batch is a replicated leaf.

    Raises:
        BatchError: The spec is no prefix of the batch, or names a dimension that a leaf does not have.

    Example:
        >>> leaves, _ = resolve({"x": torch.ones(4, 3), "scale": torch.ones(())}, {"x": -2, "scale": None})
        >>> [(leaf.name, leaf.dim) for leaf in leaves]
        [('scale', None), ('x', 0)]
    """
    paths, values, structure = optree.tree_flatten_with_path(batch, none_is_leaf=True)
    try:
        dims = optree.broadcast_prefix(spec, batch, none_is_leaf=True)
    except ValueError as error:
        raise BatchError(
            f"batch_spec {spec!r} is no prefix of the batch: {error} "
            f"Give an int or None for each leaf, or one for a whole subtree."
        ) from error
    leaves = [_leaf(leaf_name(path), value, dim) for path, value, dim in zip(paths, values, dims, strict=True)]
    return leaves, structure


def rows_of(leaves: list[BatchLeaf]) -> int | None:
    """The number of rows that all leaves agree on, `None` if every leaf is replicated.

    Raises:
        BatchError: Two leaves disagree, or there are no rows.
    """
    split = [leaf for leaf in leaves if leaf.dim is not None]
    for leaf in split:
        if leaf.rows != split[0].rows:
            raise BatchError(
                f"batch: {split[0]} has {split[0].rows} rows along dimension {split[0].dim}, "
                f"but {leaf} has {leaf.rows} along dimension {leaf.dim}; make them equal, "
                f"or name the batch dimension of each leaf in batch_spec (None for a replicated leaf)."
            )
        if leaf.rows == 0:
            raise BatchError(f"batch: {leaf} has no rows along dimension {leaf.dim}; pass a batch of at least one row.")
    return split[0].rows if split else None


def check_divides(leaves: list[BatchLeaf], n: int) -> int | None:
    """The rows of each of `n` microbatches, `None` if every leaf is replicated.

    Raises:
        BatchError: `n` is not a positive int or does not divide the rows; the message says what does.
    """
    check_count(n)
    rows = rows_of(leaves)
    if rows is None or rows % n == 0:
        return None if rows is None else rows // n
    leaf = next(leaf for leaf in leaves if leaf.dim is not None)
    raise BatchError(
        f"batch: {leaf} has {rows} rows along dimension {leaf.dim}, which {n} microbatches do not divide; "
        f"use {_or(_near_divisors(rows, n))} microbatches, or {_or(_near_multiples(rows, n))} rows, "
        f"or fill up with fp.microbatch.pad(batch, {n})."
    )


def check_count(n: int) -> None:
    """Raises a BatchError unless `n` is a possible number of microbatches."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise BatchError(f"the number of microbatches is {n!r}; pass an int of at least 1.")


def _leaf(name: str, value: Any, dim: Any) -> BatchLeaf:
    """A leaf with its dimension checked and counted from the front."""
    if dim is None or value is None:
        return BatchLeaf(name, value, None)
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise BatchError(f"batch_spec of {place(name)} is {dim!r}; give the batch dimension as an int, or None.")
    if not isinstance(value, torch.Tensor):
        raise BatchError(
            f"batch: {place(name)} is of type {type(value).__name__}, not a tensor; make it a tensor, "
            f"or give it None in batch_spec so that every microbatch gets it whole."
        )
    if not -value.ndim <= dim < value.ndim:
        raise BatchError(
            f"batch: {place(name)} ({type_text(value)}) has no dimension {dim}; "
            f"give its batch dimension in batch_spec, or None so that every microbatch gets it whole."
        )
    return BatchLeaf(name, value, dim % value.ndim)


def _near_divisors(rows: int, n: int) -> list[int]:
    """The divisors of `rows` next to `n`: the largest below it and the smallest above it."""
    divisors = [d for d in range(1, rows + 1) if rows % d == 0]
    below, above = [d for d in divisors if d < n], [d for d in divisors if d > n]
    return below[-1:] + above[:1]


def _near_multiples(rows: int, n: int) -> list[int]:
    """The multiples of `n` next to `rows`, without zero."""
    below = rows // n * n
    return [m for m in (below, below + n) if m > 0]


def _or(numbers: list[int]) -> str:
    """Numbers as alternatives in a sentence."""
    return " or ".join(map(str, numbers))
