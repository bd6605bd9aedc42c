"""The leaves of a state dict: nested dicts with string keys, whose leaf's name is its keys joined by dots."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from funpipe._errors import CheckpointError
from funpipe.functional.pending import require_whole

Leaf = Tensor | int | float | str | bool | None
StateDict = dict[str, Any]
"""Nested dicts with string keys; the leaves are tensors and plain Python values."""


def check(path: Path, name: str, leaf: Leaf, stored: dict[str, Any]) -> None:
    """Raises unless the checkpoint has this leaf, with this type."""
    if name not in stored:
        near = get_close_matches(name, stored) or sorted(stored)[:3]
        raise CheckpointError(
            f"{path} has no leaf {name!r}, only {len(stored)} others such as {', '.join(near)}; "
            "load it into the model and optimizer that were saved"
        )
    there, wanted = describe(stored[name]), describe(leaf)
    if there != wanted:
        raise CheckpointError(
            f"leaf {name!r} is {there} in {path}, but {wanted} here; build the model and optimizer as they were saved"
        )


def describe(leaf: object) -> str:
    """A leaf's dtype and shape; of plain values only that they are plain."""
    if isinstance(leaf, Tensor):
        return f"{leaf.dtype} {list(leaf.shape)}"
    if isinstance(leaf, TensorStorageMetadata):
        return f"{leaf.properties.dtype} {list(leaf.size)}"
    return "a plain value"


def blank(leaf: Leaf) -> Leaf:
    """Room for a leaf."""
    if not isinstance(leaf, Tensor):
        return leaf
    device = "cpu" if leaf.device.type == "meta" else leaf.device
    return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=device)


def replace(fn: Callable[[Leaf], Leaf], tree: StateDict) -> StateDict:
    """The same nested dicts with other leaves."""
    return {key: replace(fn, value) if isinstance(value, dict) else fn(value) for key, value in tree.items()}


def names(tree: StateDict) -> dict[str, Leaf]:
    """The leaves by name; raises where two would share one, or a value cannot be saved."""
    require_whole(tree, "the state")
    if not isinstance(tree, dict):
        raise CheckpointError(
            f"the state dict is a {type(tree).__name__}; save nested dicts of tensors and plain values, such as "
            "step.state_dict(state), or the state of a Clean one"
        )
    leaves: dict[str, Leaf] = {}
    for name, leaf in walk("", tree):
        if name in leaves:
            raise CheckpointError(f"two leaves are named {name!r}; rename a key so that the dotted names differ")
        require_whole(leaf, f"leaf {name!r}")
        if leaf is not None and not isinstance(leaf, Tensor | int | float | str | bool):
            raise CheckpointError(
                f"leaf {name!r} is a {type(leaf).__name__}; save tensors and plain values in nested dicts"
            )
        leaves[name] = leaf
    return leaves


def walk(prefix: str, tree: StateDict) -> Iterator[tuple[str, Any]]:
    """Every leaf with its dotted name."""
    for key, value in tree.items():
        if not isinstance(key, str):
            raise CheckpointError(f"key {key!r} under {prefix or 'the top'!r} is no string; use strings as names")
        name = f"{prefix}.{key}" if prefix else key
        yield from walk(name, value) if isinstance(value, dict) else [(name, value)]
