"""Trees of this layer: optree's containers, and those that users have registered with torch.

Whoever comes from torch may pass a dataclass of `torch.export.register_dataclass`, or another container that torch
knows. optree learns of such a type when one turns up.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import optree
from optree import PyTreeAccessor, PyTreeSpec
from torch import Tensor

from funpipe.functional import torch_containers

NAMESPACE = "funpipe.interop.pipelining"
PLAIN = {Tensor, type(None), bool, int, float, str}

_learned: set[type] = set()
_learning = threading.Lock()


def flatten(tree: Any) -> tuple[list[Any], PyTreeSpec]:
    """The leaves of a tree, and its structure.

    Args:
        tree: Any tree; `None` is a leaf.

    Returns:
        The leaves in tree order (the keys of dicts sorted), and the structure for `unflatten`.

    Example:
        >>> flatten({"b": [1, None], "a": 2})[0]
        [2, 1, None]
    """
    leaves, structure = optree.tree_flatten(tree, none_is_leaf=True, namespace=NAMESPACE)
    return flatten(tree) if _learn(leaves) else (leaves, structure)


def flatten_with_names(tree: Any, name: str) -> tuple[list[str], list[Any], PyTreeSpec]:
    """The leaves of a tree with what a message calls them, and its structure.

    Args:
        tree: Any tree; `None` is a leaf.
        name: What the tree is called.

    Returns:
        The names, the leaves, the structure.

    Example:
        >>> flatten_with_names([{"x": 1}], "args")[0]
        ["args[0]['x']"]
    """
    leaves, structure = flatten(tree)
    accessors: list[PyTreeAccessor] = structure.accessors()
    return [accessor.codify(name) for accessor in accessors], leaves, structure


def unflatten(structure: PyTreeSpec, leaves: Iterable[Any]) -> Any:
    """Puts leaves back into a structure.

    Args:
        structure: As `flatten` gave it.
        leaves: As many as it has.

    Returns:
        The tree.

    Example:
        >>> unflatten(flatten((1, [2]))[1], ["a", "b"])
        ('a', ['b'])
    """
    return optree.tree_unflatten(structure, leaves)


def broadcast(prefix: Any, tree: Any) -> list[Any] | None:
    """For each leaf of a tree the leaf of a prefix that stands for it.

    Args:
        prefix: A tree whose leaves may stand where the other has containers.
        tree: Any tree.

    Returns:
        As many values as the tree has leaves; None where it does not begin as the prefix does.

    Example:
        >>> broadcast(("a", "b"), ([1, 2], 3)), broadcast(("a",), (1, 2))
        (['a', 'a', 'b'], None)
    """
    flatten(tree)
    flatten(prefix)
    try:
        return optree.broadcast_prefix(prefix, tree, none_is_leaf=True, namespace=NAMESPACE)
    except ValueError:
        return None  # the caller knows what the two are called, and says so


def _learn(leaves: Iterable[Any]) -> bool:
    """Whether one of the leaves is a container that only torch knew when the tree was taken apart."""
    odd = {type(leaf) for leaf in leaves} - PLAIN
    if not odd:
        return False
    with _learning:
        known = torch_containers()
        for kind in odd & known.keys() - _learned:
            _register(kind, *known[kind])
        return not odd.isdisjoint(_learned)  # another thread may have been first


def _register(kind: type, take_apart: Callable[[Any], Any], make: Callable[[Any, Any], Any]) -> None:
    """Tells optree of a type as torch was told."""
    optree.register_pytree_node(
        kind,  # type: ignore[arg-type]
        lambda container: tuple(take_apart(container)[:2]),
        lambda context, children: make(list(children), context),
        namespace=NAMESPACE,
    )
    _learned.add(kind)
