"""Trees of this layer: optree's containers, and those that users have registered with torch.

Whoever comes from torch may pass a dataclass of `torch.export.register_dataclass`, or another container that torch
knows. optree learns of such a type when one turns up, and of the dataclasses of models that are captured.
"""

import dataclasses
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
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


def packed(structure: PyTreeSpec) -> tuple[tuple[type, ...], bytes]:
    """A structure as what pickles, for a process that has not seen its containers yet.

    Args:
        structure: As `flatten` gave it.

    Returns:
        The types of its containers, and the structure itself.

    Example:
        >>> structure = flatten({"a": [1]})[1]
        >>> unpacked(packed(structure)) == structure
        True
    """
    return tuple(dict.fromkeys(_types(structure))), pickle.dumps(structure)


def unpacked(pack: tuple[tuple[type, ...], bytes]) -> PyTreeSpec:
    """The structure; types that only torch knows here are learned.

    Args:
        pack: As `packed` gave it.
    """
    types, text = pack
    _learn_types(set(types))
    for kind in types:
        if dataclasses.is_dataclass(kind):
            learn_dataclass(kind)
    return pickle.loads(text)


def learn_dataclass(kind: type) -> None:
    """Makes a dataclass a container here, and nowhere else.

    Args:
        kind: it; one that is a container already stays what it is.

    Example:
        >>> Pair = dataclasses.make_dataclass("Pair", ["x", "y"])
        >>> learn_dataclass(Pair)
        >>> flatten(Pair(1, 2))[0]
        [1, 2]
    """
    names = [field.name for field in dataclasses.fields(kind)]
    if _learn_types({kind}):
        return
    with _learning:
        if kind not in _learned:
            _register(
                kind,
                lambda container: ([getattr(container, name) for name in names], tuple(names)),
                lambda children, _: kind(**dict(zip(names, children, strict=True))),
            )


def _types(structure: PyTreeSpec) -> Iterator[type]:
    if structure.type is not None:
        yield structure.type
    for child in structure.children():
        yield from _types(child)


def _learn(leaves: Iterable[Any]) -> bool:
    """Whether one of the leaves is a container that only torch knew when the tree was taken apart."""
    return _learn_types({type(leaf) for leaf in leaves} - PLAIN)


def _learn_types(odd: set[type]) -> bool:
    """Whether one of these types is a container that only torch knew."""
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
