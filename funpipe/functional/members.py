"""Parameter trees of several models as one tree, whose leaves count them along a dimension."""

from collections.abc import Sequence

import optree
import torch
from torch import Tensor

from funpipe._errors import TreeError
from funpipe._typing import Tree
from funpipe.functional.tree import check_same, named_leaves, place, type_text, types_of, unflatten_named


def stack(trees: Sequence[Tree]) -> Tree:
    """The parameter trees of several models as one, with a leading dimension that counts them.

    Args:
        trees: at least one; of the same structure, shapes and dtypes.

    Returns:
        A tree of new tensors, which require a gradient where the first tree's do.

    Raises:
        TreeError: there is none, or they differ.

    Example:
        >>> stack([{"w": torch.zeros(2)}, {"w": torch.ones(2)}])["w"]
        tensor([[0., 0.],
                [1., 1.]])
    """
    if not trees:
        raise TreeError("fp.stack got no trees; pass at least one, as in fp.stack([params]).")
    first, spec = named_leaves(trees[0], what="the trees")
    types = types_of(first)
    for index, tree in enumerate(trees):
        check_same(types, tree, what=f"tree {index}")
    named = [named_leaves(tree)[0] for tree in trees]
    stacked = {
        n: torch.stack([tree[n].detach() for tree in named]).requires_grad_(leaf.requires_grad)
        for n, leaf in first.items()
    }
    return unflatten_named(spec, stacked)


def unstack(tree: Tree) -> list[Tree]:
    """The members of a stacked tree; the inverse of `stack`.

    Args:
        tree: each leaf counts members along dimension 0.

    Returns:
        One tree for each member; its tensors are views.

    Raises:
        TreeError: leaves count different numbers of members.

    Example:
        >>> [member["w"].item() for member in unstack({"w": torch.tensor([1.0, 2.0])})]
        [1.0, 2.0]
    """
    size = members(tree, 0)
    return [optree.tree_map(lambda leaf, i=i: leaf[i], tree) for i in range(size)]


def dims_of(tree: Tree, dims: Tree) -> list[int | None]:
    """The dimension of each leaf that counts members, None where there is none.

    Args:
        tree: any tree; its `None`s are no leaves.
        dims: a prefix tree of dimensions.

    Raises:
        TreeError: it is no prefix.
    """
    try:
        found = optree.broadcast_prefix(dims, tree, none_is_leaf=True)
    except ValueError as error:
        raise TreeError(f"in_dims {dims!r} is no prefix of its tree: {error} Give an int for all leaves.") from error
    leaves = optree.tree_leaves(tree, none_is_leaf=True)
    return [dim for leaf, dim in zip(leaves, found, strict=True) if leaf is not None]


def members(params: Tree, dims: Tree) -> int:
    """How many members the leaves count along their dimensions.

    Args:
        params: stacked.
        dims: as a prefix tree.

    Raises:
        TreeError: they count different numbers, or none does.
    """
    named = named_leaves(params, what="params")[0]
    pairs = zip(named.items(), dims_of(params, dims), strict=True)
    counts = {n: _rows(n, leaf, dim) for (n, leaf), dim in pairs if dim is not None}
    if not counts:
        raise TreeError("no leaf of params counts members; stack the members' trees with fp.stack([params, ...]).")
    first = next(iter(counts))
    for name, rows in counts.items():
        if rows != counts[first]:
            raise TreeError(
                f"params: {place(name)} counts {rows} members, but {place(first)} counts {counts[first]}; stack the "
                "members' trees with fp.stack([params, ...])."
            )
    return counts[first]


def _rows(name: str, leaf: Tensor, dim: int) -> int:
    if not -leaf.ndim <= dim < leaf.ndim:
        raise TreeError(
            f"params: {place(name)} is {type_text(leaf)} and has no dimension {dim} that counts members; stack the "
            "members' trees with fp.stack([params, ...])."
        )
    return leaf.shape[dim]
