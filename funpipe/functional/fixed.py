"""What a batch may hold besides tensors: values that are constants of a step, and containers that only others know.

A number, a string or an enum in a batch is no leaf: it becomes a `Fixed`, a node without leaves, so that whatever looks
at the leaves of a batch sees tensors alone; the traced function gets the value itself. A container that optree does not
know (a dataclass, an output class of Hugging Face) becomes a `Foreign`, a node with the same children.
"""

import dataclasses
import enum
from collections import UserDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optree
import torch
from optree import registry
from torch import Tensor

from funpipe import _compat
from funpipe._typing import Tree

_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    enum.Enum,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)
_GLOBAL: Any = registry.__GLOBAL_NAMESPACE  # how optree spells that a class is known everywhere


class _Unseen:
    """Holds what two structures may differ in and still be equal."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unseen)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "…"


@dataclass(frozen=True)
class FixedType:
    """Which value a `Fixed` holds: its class and how it prints, equal in every process for equal values."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class Fixed:
    """A value in a batch that is no tensor and is a constant of the step."""

    value: Any

    @property
    def type(self) -> FixedType:
        """What of it decides whether a step fits."""
        kind = type(self.value)
        text = str(self.value) if isinstance(self.value, enum.Enum) else repr(self.value)
        return FixedType(f"{kind.__module__}.{kind.__qualname__}", text)


@dataclass(frozen=True, eq=False)
class Foreign:
    """A container that optree does not know.

    Args:
        kind: its class.
        names: of its children.
        children: the children.
        make: makes such a container of children.
    """

    kind: type
    names: tuple[str, ...]
    children: Sequence[Any]
    make: Callable[[list[Any]], Any]


optree.register_pytree_node(
    Fixed,  # type: ignore[arg-type]
    lambda fixed: ((), _Unseen(fixed.value), ()),  # type: ignore[attr-defined]
    lambda held, _: Fixed(held.value),  # type: ignore[attr-defined, return-value]
    namespace=_GLOBAL,
)
optree.register_pytree_node(
    Foreign,  # type: ignore[arg-type]
    lambda c: (c.children, (c.kind, c.names, _Unseen(c.make)), c.names),  # type: ignore[attr-defined]
    lambda held, children: Foreign(held[0], held[1], list(children), held[2].value),  # type: ignore
    namespace=_GLOBAL,
)


def fixed(tree: Tree, values: bool = True) -> Tree:
    """The same tree with nodes in place of what optree would take for leaves that are no tensors.

    Args:
        tree: any pytree; leaves that are neither tensors, plain values nor containers stay as they are.
        values: whether plain values become `Fixed`; False: containers alone are replaced.

    Returns:
        The tree; itself where all of its leaves are tensors.

    Example:
        >>> import optree
        >>> batch = fixed({"x": torch.ones(2), "causal": True})
        >>> optree.tree_leaves(batch), unfixed(batch)["causal"]
        ([tensor([1., 1.])], True)
    """
    leaves, structure = optree.tree_flatten(tree)
    if all(isinstance(leaf, Tensor) for leaf in leaves):
        return tree
    return optree.tree_unflatten(structure, [_fixed(leaf, values) for leaf in leaves])


def unfixed(tree: Tree) -> Tree:
    """The tree that `fixed` was given, maybe with other leaves."""
    return optree.tree_map(_unfixed, tree, is_leaf=_is_node)


def fixed_types(tree: Tree) -> dict[str, FixedType]:
    """The plain values in a tree that `fixed` gave, by name.

    Args:
        tree: the tree.

    Example:
        >>> {n: str(kind) for n, kind in fixed_types(fixed({"x": torch.ones(2), "scale": 0.5})).items()}
        {'scale': '0.5'}
    """
    return dict(_types((), tree))


def _types(path: tuple[Any, ...], tree: Tree) -> Iterator[tuple[str, FixedType]]:
    paths, leaves, _ = optree.tree_flatten_with_path(tree, is_leaf=_is_node)
    for below, leaf in zip(paths, leaves, strict=True):
        at = (*path, *below)
        if isinstance(leaf, Fixed):
            yield ".".join(map(str, at)), leaf.type
        elif isinstance(leaf, Foreign):
            for name, child in zip(leaf.names, leaf.children, strict=True):
                yield from _types((*at, name), child)


def _is_node(value: Any) -> bool:
    return isinstance(value, Fixed | Foreign)


def _fixed(leaf: Any, values: bool) -> Any:
    if isinstance(leaf, Tensor):
        return leaf
    if isinstance(leaf, _PLAIN):
        return Fixed(leaf) if values else leaf
    found = _taken_apart(leaf)
    if found is None:
        return leaf
    names, children, make = found
    return Foreign(type(leaf), tuple(names), [fixed(child, values) for child in children], make)


def _unfixed(leaf: Any) -> Any:
    if isinstance(leaf, Fixed):
        return leaf.value
    return leaf.make([unfixed(child) for child in leaf.children]) if isinstance(leaf, Foreign) else leaf


_Apart = tuple[Sequence[str], Sequence[Any], Callable[[list[Any]], Any]]


def _taken_apart(container: Any) -> _Apart | None:
    """The names of a container's children, the children, and how to make another one; None if it is none."""
    known = _compat.torch_containers().get(type(container))
    if known is not None:
        children, context = known[0](container)[:2]
        named = isinstance(context, list | tuple) and len(context) == len(children)
        return [str(c) for c in context] if named else _numbers(children), children, lambda new: known[1](new, context)
    if dataclasses.is_dataclass(container) and not isinstance(container, type):
        names = [field.name for field in dataclasses.fields(container)]
        return names, [getattr(container, n) for n in names], lambda new: _instance(type(container), names, new)
    if isinstance(container, UserDict):
        return [str(k) for k in container], list(container.values()), lambda new: _mapping(container, new)
    return None


def _numbers(children: Sequence[Any]) -> list[str]:
    return [str(i) for i in range(len(children))]


def _instance(kind: type, names: Sequence[str], values: Sequence[Any]) -> Any:
    """A dataclass with these fields; its `__post_init__` has run once and may not take stand-ins."""
    made = object.__new__(kind)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    return made


def _mapping(like: UserDict[Any, Any], values: Sequence[Any]) -> UserDict[Any, Any]:
    made = object.__new__(type(like))
    made.__dict__.update(like.__dict__)
    made.data = dict(zip(like, values, strict=True))
    return made
