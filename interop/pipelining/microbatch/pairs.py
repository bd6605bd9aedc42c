"""A tree and the spec of each of its leaves, side by side."""

import re
from dataclasses import dataclass
from typing import Any

from optree import PyTreeSpec

from funpipe.interop.pipelining.trees import broadcast, flatten, flatten_with_names


@dataclass(frozen=True)
class Pair:
    """One leaf, its spec, and how a message calls it: `args[0]['mask']`."""

    name: str
    value: Any
    spec: Any


def pair(tree: Any, spec: Any, name: str) -> tuple[list[Pair], PyTreeSpec] | None:
    """Puts to each leaf of a tree its spec.

    Args:
        tree: Any pytree; `None` is a leaf.
        spec: A tree that begins as `tree` does; one of its leaves holds for all below.
        name: What the tree is, for messages.

    Returns:
        The leaves in tree order, and the tree's structure; None where the spec does not begin as the tree does.

    Example:
        >>> leaves, _ = pair(([1, 2], 3), ("both", "one"), "args")
        >>> [(leaf.name, leaf.spec) for leaf in leaves]
        [('args[0][0]', 'both'), ('args[0][1]', 'both'), ('args[1]', 'one')]
    """
    names, values, structure = flatten_with_names(tree, name)
    specs = broadcast(spec, tree)
    if specs is None:
        return None
    return [Pair(*leaf) for leaf in zip(names, values, specs, strict=True)], structure


def outline(tree: Any) -> str:
    """The structure of a tree for a message, leaves as stars.

    Args:
        tree: Any pytree.

    Example:
        >>> outline({"x": 1, "y": (2, None)})
        "{'x': *, 'y': (*, *)}"
    """
    text = str(flatten(tree)[1]).removeprefix("PyTreeSpec(")
    return re.sub(r", NoneIsLeaf(, namespace=.*)?\)$", "", text)
