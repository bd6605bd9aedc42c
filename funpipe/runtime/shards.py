"""A whole tree as each rank's part of it, and back: what a sharded step is given, and what is saved of it."""

from collections.abc import Callable
from typing import Any

import optree
from torch import Tensor

from funpipe._errors import CommunicationError
from funpipe._typing import MeshShape, Tree
from funpipe.functional.axes import AxisName, members_along, on_mesh
from funpipe.functional.tree import leaf_name, place, type_text
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.place import Place

Change = Callable[[str, Tensor, int], Tensor]
"""A leaf by its name, and the dimension along which it is cut."""


def shard(tree: Tree, mesh: Mesh | None, dims: Tree = 0, axis: AxisName = "dp") -> Tree:
    """This rank's part of a whole tree; nothing is communicated.

    Args:
        tree: a pytree of tensors, the same on all ranks.
        mesh: the processes; None: this one is alone, and its part is the whole.
        dims: along which dimension each leaf is cut: a prefix tree of `int | None`, None for a leaf that each rank has
            whole.
        axis: the ranks that share it, "dp", "pp" or ("dp", "pp").

    Returns:
        A tree like it, with that dimension divided by the number of ranks; copies, so that a step may overwrite them.

    Raises:
        CommunicationError: `dims` is no prefix of the tree, or a leaf has no such dimension, or it cannot be shared
            equally.

    Example:
        >>> import torch, funpipe as fp
        >>> alone = fp.mesh(pp=1, device="cpu")
        >>> fp.shard({"w": torch.ones(4, 2), "lr": torch.tensor(0.1)}, alone, {"w": 0, "lr": None})["w"].shape
        torch.Size([4, 2])
        >>> alone.close()
    """
    size, index = _along(mesh, axis)

    def part(name: str, leaf: Tensor, dim: int) -> Tensor:
        if leaf.shape[dim] % size:
            raise CommunicationError(
                f"shard: {place(name)} is {type_text(leaf)}, and its dimension {dim} cannot be shared by {size} ranks: "
                "cut it along another dimension, or give it None in dims."
            )
        return leaf.chunk(size, dim)[index].clone()

    return _each("shard", tree, dims, part)


def unshard(tree: Tree, mesh: Mesh | None, dims: Tree = 0, axis: AxisName = "dp") -> Tree:
    """The whole tree from the ranks' parts; every rank of the axis calls it, and each gets the whole.

    Args:
        tree: this rank's part, as `shard` or a step gave it.
        mesh: the processes; None: this one is alone.
        dims: as in `shard`.
        axis: as in `shard`.

    Returns:
        A tree like it, of copies.

    Raises:
        CommunicationError: `dims` is no prefix of the tree, or a leaf has no such dimension.

    Example:
        >>> import torch, funpipe as fp
        >>> alone = fp.mesh(pp=1, device="cpu")
        >>> fp.unshard(fp.shard(torch.arange(4), alone), alone)
        tensor([0, 1, 2, 3])
        >>> alone.close()
    """
    communicator = Place.of(mesh).communicator
    with on_mesh(MeshShape(1) if mesh is None else mesh.shape):
        along = members_along(axis, "unshard", ordered=True).axis

    def whole(name: str, leaf: Tensor, dim: int) -> Tensor:
        rows = leaf.movedim(dim, 0).contiguous()
        return communicator.wait(communicator.all_gather(rows, along)).movedim(0, dim).contiguous()

    return _each("unshard", tree, dims, whole)


def _along(mesh: Mesh | None, axis: AxisName) -> tuple[int, int]:
    """The number of ranks of an axis, and this one's place among them."""
    with on_mesh(MeshShape(1) if mesh is None else mesh.shape):
        found = members_along(axis, "shard", ordered=True)
    if mesh is None:
        return 1, 0
    place_of = {"dp": mesh.dp_rank, "pp": mesh.pp_rank, "world": mesh.dp_rank * mesh.shape.pp + mesh.pp_rank}
    return found.size, place_of[found.axis]


def _each(what: str, tree: Tree, dims: Tree, change: Change) -> Tree:
    paths, leaves, spec = optree.tree_flatten_with_path(tree)
    try:
        wanted = optree.broadcast_prefix(dims, tree, none_is_leaf=True)
    except ValueError as error:
        raise CommunicationError(
            f"{what}: dims {dims!r} is no prefix of the tree: {error} Give an int or None for each leaf, or one for a "
            "whole subtree."
        ) from error
    named = [leaf_name(path) for path in paths]
    made = [_changed(what, n, leaf, dim, change) for n, leaf, dim in zip(named, leaves, wanted, strict=True)]
    return optree.tree_unflatten(spec, made)


def _changed(what: str, name: str, leaf: Any, dim: Any, change: Change) -> Tensor:
    if not isinstance(leaf, Tensor):
        raise CommunicationError(f"{what}: {place(name)} is {type_text(leaf)}, not a tensor; pass torch.as_tensor(x).")
    if dim is None:
        return leaf.clone()
    if not isinstance(dim, int) or not -leaf.ndim <= dim < leaf.ndim:
        raise CommunicationError(
            f"{what}: {place(name)} is {type_text(leaf)} and has no dimension {dim!r}; give one of its dimensions in "
            "dims, or None for a leaf that each rank has whole."
        )
    return change(name, leaf.detach(), dim % leaf.ndim)
