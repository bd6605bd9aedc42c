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


def pad(batch: Tree, n: int, spec: Tree = 0, *, rows: int | None = None) -> tuple[Tree, Tensor]:
    """Fills a batch up to a multiple of `n` rows, or to so many, with copies of its last row.

    A copy keeps every value in its domain (a token id, a normalised image); leave it out of the loss with the mask, for
    example as the weight of `fp.Weighted`.

    Args:
        batch: The batch.
        n: The number of microbatches that must divide the rows.
        spec: The batch dimension of each leaf.
        rows: To how many rows, so that a last, smaller batch runs through the step of the others; a multiple of `n`.

    Returns:
        The batch with as many rows as are needed, and a mask `bool[rows]` that is true for the rows that were there.

    Raises:
        BatchError: Leaves disagree on the rows, all are replicated, the spec does not fit, or there are more rows than
            asked for.

    Example:
        >>> pad({"x": torch.tensor([7, 8, 9])}, 2)
        ({'x': tensor([7, 8, 9, 9])}, tensor([ True,  True,  True, False]))
    """
    check_count(n)
    leaves, structure = resolve(batch, spec)
    have = rows_of(leaves)
    if have is None:
        raise BatchError("pad: every leaf of the batch is replicated; give the batch dimension of one in batch_spec.")
    missing = _missing(have, n, rows)
    padded = optree.tree_unflatten(structure, [_padded(leaf, missing) for leaf in leaves])
    device = next(leaf.value.device for leaf in leaves if leaf.dim is not None)
    return padded, torch.arange(have + missing, device=device) < have


def pad_to(batch: Tree, sizes: int | Sequence[int], dim: Tree = 1, fill: Tree = 0) -> tuple[Tree, Tensor]:
    """Fills a dimension of a batch, such as that of the tokens, up to one of a few sizes.

    A step is compiled for each size that it sees; with a few sizes to choose from it is compiled as often as there are
    sizes. What was filled in must not count: leave it out of attention and loss with the mask, or with fills that the
    loss function ignores.

    Args:
        batch: A pytree of tensors.
        sizes: The sizes to choose from; the smallest that is large enough is taken. One number: that size.
        dim: The dimension of each leaf, as a prefix tree of ints; None for leaves that are left as they are.
        fill: What each leaf is filled with, as a prefix tree of numbers, such as -100 for labels.

    Returns:
        The batch, and a mask `bool[size]` that is true for the positions that were there.

    Raises:
        BatchError: No size is large enough, leaves disagree on theirs, or `dim` or `fill` does not fit the batch.

    Example:
        >>> batch = {"tokens": torch.tensor([[7, 8, 9]]), "labels": torch.tensor([[8, 9, 7]])}
        >>> padded, mask = pad_to(batch, (4, 8), fill={"tokens": 0, "labels": -100})
        >>> padded["labels"], mask
        (tensor([[   8,    9,    7, -100]]), tensor([ True,  True,  True, False]))
    """
    leaves, structure = resolve(batch, dim)
    have = rows_of(leaves)
    if have is None:
        raise BatchError("pad_to: no leaf of the batch has a dimension to fill; name one in dim.")
    size = _large_enough(have, (sizes,) if isinstance(sizes, int) else sizes)
    try:
        fills = optree.broadcast_prefix(fill, batch, none_is_leaf=True)
    except ValueError as error:
        raise BatchError(f"fill {fill!r} is no prefix of the batch: {error} Give a number for each leaf.") from error
    filled = [_filled(leaf, size - have, value) for leaf, value in zip(leaves, fills, strict=True)]
    device = next(leaf.value.device for leaf in leaves if leaf.dim is not None)
    return optree.tree_unflatten(structure, filled), torch.arange(size, device=device) < have


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


def numbers(rows: int, n: int, first: int = 0) -> Tensor:
    """The number of its microbatch for each row of a batch: for a loss function that has to know which one it is given.

    Args:
        rows: Of the batch.
        n: Into how many microbatches it is split.
        first: The number of the first; with replicas `dp_rank * n`.

    Returns:
        int64[rows].

    Raises:
        BatchError: `n` does not divide the rows.

    Example:
        >>> numbers(4, 2), numbers(2, 2, first=2)
        (tensor([0, 0, 1, 1]), tensor([2, 3]))
    """
    check_divides([BatchLeaf("", torch.empty(rows, device="meta"), 0)], n)
    return torch.arange(first, first + n).repeat_interleave(rows // n)


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


def _missing(have: int, n: int, rows: int | None) -> int:
    """How many rows to add."""
    if rows is None:
        return -have % n
    if rows % n or rows < have:
        raise BatchError(
            f"pad: rows is {rows}, for a batch of {have} rows and {n} microbatches; pass a multiple of {n} that is at "
            f"least {have}, such as {have + -have % n}."
        )
    return rows - have


def _large_enough(have: int, sizes: Sequence[int]) -> int:
    """The smallest size that holds so many."""
    enough = [size for size in sizes if size >= have]
    if not enough:
        raise BatchError(
            f"pad_to: the batch has {have} positions, and the largest size is {max(sizes, default=0)}; add a larger "
            "size, or cut the batch off."
        )
    return min(enough)


def _filled(leaf: BatchLeaf, missing: int, fill: Any) -> Any:
    """A leaf with so many positions of one value behind the others."""
    if leaf.dim is None or not missing:
        return leaf.value
    shape = [missing if d == leaf.dim else n for d, n in enumerate(leaf.value.shape)]
    return torch.cat([leaf.value, leaf.value.new_full(shape, fill)], dim=leaf.dim)


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
