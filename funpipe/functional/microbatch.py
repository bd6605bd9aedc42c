"""Microbatches: a batch, any pytree, cut along the batch dimension of each leaf and put together again.

Everywhere, `spec` says which dimension of each leaf counts the rows: an int for all, or a prefix tree of ints and
`None`; a leaf of `None` is replicated, whole in every microbatch.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import optree
import torch
from torch import Tensor

from funpipe._errors import BatchError, TreeError
from funpipe._typing import TensorType, Tree
from funpipe.functional.batch_spec import BatchLeaf, check_count, check_divides, resolve, rows_of
from funpipe.functional.tree import named_leaves, types_of, unflatten_named


def split(batch: Tree, n: int, spec: Tree = 0) -> list[Tree]:
    """Cuts a batch into `n` microbatches of equally many consecutive rows.

    Args:
        batch: A pytree of tensors with equally many rows along their batch dimensions, and of replicated leaves.
        n: The number of microbatches.
        spec: The batch dimension of each leaf.

    Returns:
        `n` pytrees of the same structure; their tensors are views of the batch's.

    Raises:
        BatchError: The rows do not divide by `n`, leaves disagree on the rows, or the spec does not fit.

    Example:
        >>> split({"x": torch.arange(4), "scale": 2.0}, 2, {"x": 0, "scale": None})
        [{'x': tensor([0, 1]), 'scale': 2.0}, {'x': tensor([2, 3]), 'scale': 2.0}]
    """
    leaves, structure = resolve(batch, spec)
    size = check_divides(leaves, n)
    return [optree.tree_unflatten(structure, [_rows(leaf, i, size) for leaf in leaves]) for i in range(n)]


def merge(microbatches: Sequence[Tree], spec: Tree = 0) -> Tree:
    """Puts microbatches together to the batch that they were split from.

    Args:
        microbatches: Pytrees of the same structure.
        spec: The batch dimension of each leaf.

    Returns:
        One pytree: tensors concatenated along their batch dimension, replicated leaves those of the first microbatch.

    Raises:
        BatchError: There is no microbatch, or leaves of one name do not fit together.
        TreeError: The structures differ.

    Example:
        >>> merge([(torch.zeros(1), torch.ones(2)), (torch.zeros(1), torch.ones(1))])
        (tensor([0., 0.]), tensor([1., 1., 1.]))
    """
    if not microbatches:
        raise BatchError("merge got no microbatches; pass at least one.")
    resolved = [resolve(microbatch, spec) for microbatch in microbatches]
    structure = resolved[0][1]
    for i, (_, other) in enumerate(resolved):
        if other != structure:
            raise TreeError(
                f"merge: microbatch {i} is {other}, but microbatch 0 is {structure}; give all one structure."
            )
    columns = zip(*(leaves for leaves, _ in resolved), strict=True)
    return optree.tree_unflatten(structure, [_joined(column) for column in columns])


def map(
    fn: Callable[[Tree], Tree], batch: Tree, n: int, spec: Tree = 0, how: Literal["sequential", "vmap"] = "sequential"
) -> Tree:
    """Applies a function to each of `n` microbatches and stacks what it returns.

    Args:
        fn: From a microbatch to a pytree of tensors; the same structure, shapes and dtypes for each.
        batch: The batch.
        n: The number of microbatches.
        spec: The batch dimension of each leaf.
        how: One microbatch after the other, or all at once through `torch.func.vmap`; the results are the same up to
            rounding.

    Returns:
        The pytree that `fn` returns, each tensor with a new dimension 0 of size `n`.

    Raises:
        BatchError: As `split`, or an unknown `how`.
        TreeError: `fn` returns leaves that are not tensors, or not the same for each microbatch.

    Example:
        >>> map(lambda x: {"sum": x.sum()}, torch.arange(4.0), 2, how="vmap")
        {'sum': tensor([1., 5.])}
    """
    if how == "sequential":
        return _map_sequential(fn, split(batch, n, spec))
    if how == "vmap":
        return _map_vmap(fn, batch, n, spec)
    raise BatchError(f"map: how is {how!r}; use 'sequential' or 'vmap'.")


def pad(batch: Tree, n: int, spec: Tree = 0) -> tuple[Tree, Tensor]:
    """Fills a batch up to a multiple of `n` rows with copies of its last row.

    A copy keeps every value in its domain (a token id, a normalised image); leave it out of the loss with the mask, for
    example as the weight of `fp.Weighted`.

    Args:
        batch: The batch.
        n: The number of microbatches that must divide the rows.
        spec: The batch dimension of each leaf.

    Returns:
        The batch with as many rows as are needed, and a mask `bool[rows]` that is true for the rows that were there.

    Raises:
        BatchError: Leaves disagree on the rows, all are replicated, or the spec does not fit.

    Example:
        >>> pad({"x": torch.tensor([7, 8, 9])}, 2)
        ({'x': tensor([7, 8, 9, 9])}, tensor([ True,  True,  True, False]))
    """
    check_count(n)
    leaves, structure = resolve(batch, spec)
    rows = rows_of(leaves)
    if rows is None:
        raise BatchError("pad: every leaf of the batch is replicated; give the batch dimension of one in batch_spec.")
    missing = -rows % n
    padded = optree.tree_unflatten(structure, [_padded(leaf, missing) for leaf in leaves])
    device = next(leaf.value.device for leaf in leaves if leaf.dim is not None)
    return padded, torch.arange(rows + missing, device=device) < rows


def type_of_microbatch(batch: Tree, n: int, spec: Tree = 0) -> Tree:
    """The types of the leaves of one of `n` microbatches; only shapes and dtypes of the batch are read.

    Args:
        batch: The batch, real, fake or meta; all leaves tensors.
        n: The number of microbatches.
        spec: The batch dimension of each leaf.

    Returns:
        A pytree of `TensorType`; the strides are those of a view of the batch.

    Raises:
        BatchError: As `split`.
        TreeError: A replicated leaf is not a tensor.

    Example:
        >>> str(type_of_microbatch(torch.zeros(8, 3, device="meta"), 4))
        'float32[2,3]'
    """
    named, structure = named_leaves(split(batch, n, spec)[0], what="batch")
    return unflatten_named(structure, types_of(named))


def _rows(leaf: BatchLeaf, i: int, size: int | None) -> Any:
    """The rows of microbatch `i`, or all of a replicated leaf."""
    if leaf.dim is None or size is None:
        return leaf.value
    return leaf.value.narrow(leaf.dim, i * size, size)


def _joined(column: Sequence[BatchLeaf]) -> Any:
    """One leaf of all microbatches, concatenated."""
    first = column[0]
    if first.dim is None:
        return first.value
    for i, leaf in enumerate(column):
        if _cross_section(leaf) != _cross_section(first):
            raise BatchError(
                f"merge: {leaf} of microbatch {i} does not fit {first} of microbatch 0; "
                f"only the sizes along dimension {first.dim} may differ."
            )
    return torch.cat([leaf.value for leaf in column], dim=first.dim)


def _cross_section(leaf: BatchLeaf) -> tuple[Any, ...]:
    """What must be equal for two tensors to be concatenated without a conversion."""
    shape = list(leaf.value.shape)
    del shape[leaf.dim or 0]
    return leaf.dim, shape, leaf.value.dtype, leaf.value.device


def _padded(leaf: BatchLeaf, missing: int) -> Any:
    """A leaf with its last row repeated `missing` times."""
    if leaf.dim is None or not missing:
        return leaf.value
    last = leaf.value.narrow(leaf.dim, -1, 1)
    return torch.cat([leaf.value, last.repeat_interleave(missing, leaf.dim)], dim=leaf.dim)


def _map_sequential(fn: Callable[[Tree], Tree], microbatches: list[Tree]) -> Tree:
    """Calls `fn` for one microbatch after the other."""
    flat = [named_leaves(fn(microbatch), what="map's fn returned") for microbatch in microbatches]
    first, structure = flat[0]
    for i, (named, other) in enumerate(flat):
        if other != structure or types_of(named) != types_of(first):
            raise TreeError(
                f"map: fn returned {_types_text(named)} for microbatch {i}, but {_types_text(first)} for microbatch 0; "
                f"return the same structure, shapes and dtypes for each."
            )
    return unflatten_named(structure, {name: torch.stack([named[name] for named, _ in flat]) for name in first})


def _map_vmap(fn: Callable[[Tree], Tree], batch: Tree, n: int, spec: Tree) -> Tree:
    """Calls `fn` once under vmap, with the microbatches as a new dimension in front of each batch dimension."""
    leaves, structure = resolve(batch, spec)
    size = check_divides(leaves, n)
    split_leaves = [leaf for leaf in leaves if leaf.dim is not None]
    results: list[Any] = []

    def flat_fn(_index: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        rows = iter(tensors)
        values = [leaf.value if leaf.dim is None else next(rows) for leaf in leaves]
        named, out = named_leaves(fn(optree.tree_unflatten(structure, values)), what="map's fn returned")
        results.append(out)
        return tuple(named.values())

    # The index is there because vmap needs one argument with the dimension, and all leaves may be replicated.
    stacked = [leaf.value.unflatten(leaf.dim, (n, size)) for leaf in split_leaves]
    outs = torch.func.vmap(flat_fn, in_dims=(0, *(leaf.dim for leaf in split_leaves)))(torch.arange(n), *stacked)
    return optree.tree_unflatten(results[0], outs)


def _types_text(named: dict[str, Tensor]) -> str:
    """The types of leaves for a message."""
    return "{" + ", ".join(f"{name or 'out'}: {TensorType.of(leaf)}" for name, leaf in named.items()) + "}"
