"""Pytrees as named tensors: a leaf's name is its path joined by dots, and names come in tree order.

Tree order is optree's: the keys of dicts sorted, sequences from first to last. Everything that must not depend on how a
model is cut (sums of norms, buckets, checkpoints) goes through the leaves in this order.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import optree
import torch
from optree import PyTreeSpec

from funpipe._errors import TreeError
from funpipe._typing import TensorType, Tree
from funpipe.functional.names import check_names
from funpipe.functional.pending import require_whole


def leaf_name(path: Iterable[Any]) -> str:
    """The name of the leaf at an optree path: `("layers", 0, "weight")` is `layers.0.weight`."""
    return ".".join(map(str, path))


def place(name: str) -> str:
    """How a message calls the leaf of this name; a tree that is one leaf has the empty name."""
    return f"leaf {name!r}" if name else "the only leaf"


def type_text(value: Any) -> str:
    """How a message calls the type of a value: `float32[4,2]` for a tensor, else the name of its class."""
    return str(TensorType.of(value)) if isinstance(value, torch.Tensor) else type(value).__name__


def named_leaves(tree: Tree, what: str = "tree") -> tuple[dict[str, torch.Tensor], PyTreeSpec]:
    """Flattens a pytree of tensors to a dict by name, in tree order.

    Args:
        tree: Any pytree whose leaves are tensors of any shape and dtype (real, fake or meta); `None` holds no leaf.
        what: What the tree is, for messages: "params", "batch".

    Returns:
        The leaves by name, and the structure that `unflatten_named` takes.

    Raises:
        TreeError: A leaf is not a tensor, or two leaves have the same name.

    Example:
        >>> leaves, spec = named_leaves({"b": torch.ones(2), "a": [torch.zeros(1), torch.zeros(3)]})
        >>> list(leaves)
        ['a.0', 'a.1', 'b']
    """
    paths, leaves, spec = optree.tree_flatten_with_path(tree)
    named: dict[str, torch.Tensor] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        name = leaf_name(path)
        if not isinstance(leaf, torch.Tensor):
            require_whole(leaf, what)
            raise TreeError(_not_a_tensor(name, leaf, what))
        if name in named:
            raise TreeError(f"{what}: two leaves have the name {name!r}; rename one of their keys.")
        named[name] = leaf
    return named, spec


def unflatten_named(spec: PyTreeSpec, named: Mapping[str, Any], what: str = "tree") -> Tree:
    """Puts values by name back into the structure that `named_leaves` gave.

    Args:
        spec: The structure.
        named: One value for each leaf; any type, in any order.
        what: What the tree is, for messages.

    Returns:
        The pytree.

    Raises:
        TreeError: A name is missing or unknown.

    Example:
        >>> _, spec = named_leaves([torch.ones(2), {"a": torch.zeros(1)}])
        >>> unflatten_named(spec, {"1.a": "second", "0": "first"})
        ['first', {'a': 'second'}]
    """
    names = [leaf_name(path) for path in spec.paths()]
    check_names(names, named, what)
    return optree.tree_unflatten(spec, [named[name] for name in names])


def types_of(named: Mapping[str, torch.Tensor]) -> dict[str, TensorType]:
    """The type of each tensor.

    Args:
        named: tensors by name.

    Returns:
        Their types, under the same names and in the same order.

    Example:
        >>> str(types_of({"w": torch.zeros(2, 3)})["w"])
        'float32[2,3]'
    """
    return {name: TensorType.of(leaf) for name, leaf in named.items()}


def check_same(
    expected: Mapping[str, TensorType], tree: Tree, what: str = "params", aliases: Mapping[str, str] | None = None
) -> None:
    """Raises unless a tree has the expected names, and each leaf the expected shape and dtype.

    Strides and devices may differ.

    Args:
        expected: The type of each leaf by name.
        tree: A pytree of tensors, or a dict of them by name.
        what: What the tree is, for messages.
        aliases: Other names of tied leaves, each with the one name that its leaf goes by.

    Raises:
        TreeError: The first leaf that is missing, unknown, not a tensor, or of another shape or dtype.

    Example:
        >>> check_same({"w": TensorType((2,), (1,), torch.float32)}, {"w": torch.ones(2)})
    """
    named, _ = named_leaves(tree, what)
    check_names(expected, named, what, aliases)
    for name, wanted in expected.items():
        leaf = named[name]
        if (tuple(leaf.shape), leaf.dtype) != (wanted.shape, wanted.dtype):
            raise TreeError(
                f"{what}: {place(name)} is {TensorType.of(leaf)}, but {wanted} was expected; "
                f"pass a leaf of that shape and dtype, or start again from the new leaves."
            )


def _not_a_tensor(name: str, leaf: Any, what: str) -> str:
    """The message for a leaf of another type, or a container that optree takes for one."""
    return (
        f"{what}: {place(name)} is of type {type(leaf).__name__}, not a tensor; make it a tensor, "
        f"or if it is a container, turn it into a dict, a list or a tuple."
    )
