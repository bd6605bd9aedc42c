"""A tree of arguments apart: its tensors by name, and what is left, which is part of the program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from funpipe.interop.pipelining.engine.constants import constant
from funpipe.interop.pipelining.errors import PipeTypeError
from funpipe.interop.pipelining.hidden import holds_tensors
from funpipe.interop.pipelining.trees import flatten, packed, unflatten, unpacked


@dataclass(frozen=True)
class Hole:
    """Where a tensor belongs.

    Args:
        name: the tensor's.
    """

    name: str


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A tree without its tensors.

    Args:
        structure: of the tree.
        leaves: in its order; a `Hole` for each tensor, anything else as it was.
    """

    structure: Any
    leaves: tuple[Any, ...]

    def __getstate__(self) -> tuple[Any, tuple[Any, ...]]:
        return packed(self.structure), self.leaves

    def __setstate__(self, state: tuple[Any, tuple[Any, ...]]) -> None:
        object.__setattr__(self, "structure", unpacked(state[0]))
        object.__setattr__(self, "leaves", state[1])

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal where the tree differs in the values of its tensors alone."""
        return (self.structure, *[leaf if isinstance(leaf, Hole) else constant(leaf) for leaf in self.leaves])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors."""
        return tuple(leaf.name for leaf in self.leaves if isinstance(leaf, Hole))

    def fill(self, tensors: Mapping[str, Tensor]) -> Any:
        """The tree with tensors in it.

        Args:
            tensors: by name; there may be others.
        """
        leaves = [tensors[leaf.name] if isinstance(leaf, Hole) else leaf for leaf in self.leaves]
        return unflatten(self.structure, leaves)


def apart(tree: Any, prefix: str) -> tuple[Skeleton, dict[str, Tensor]]:
    """Takes a tree apart.

    Args:
        tree: any; `None` is a leaf like other things that are no tensors.
        prefix: begins the tensors' names; their number follows.

    Example:
        >>> import torch
        >>> skeleton, tensors = apart({"x": torch.ones(2), "scale": 3}, "arg")
        >>> list(tensors), skeleton.leaves
        (['arg.0'], (3, Hole(name='arg.0')))
        >>> skeleton.fill(tensors)
        {'x': tensor([1., 1.]), 'scale': 3}
    """
    found, structure = flatten(tree)
    tensors: dict[str, Tensor] = {}
    leaves = [_hole(leaf, prefix, tensors) for leaf in found]
    return Skeleton(structure, tuple(leaves)), tensors


def _hole(leaf: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    if holds_tensors(leaf):
        raise PipeTypeError(
            f"an argument holds a {type(leaf).__name__} with tensors inside, which a compiled step would keep as they "
            "are now: pass the tensors themselves, or register the type with torch.export.register_dataclass."
        )
    if not isinstance(leaf, Tensor):
        return leaf
    name = f"{prefix}.{len(tensors)}"
    tensors[name] = leaf
    return Hole(name)


def alike(trees: Sequence[tuple[Skeleton, dict[str, Tensor]]]) -> bool:
    """Whether trees taken apart differ in the values of their tensors alone, not in shapes or dtypes."""
    keys = [(s.key, [(t.shape, t.dtype) for t in tensors.values()]) for s, tensors in trees]
    return all(key == keys[0] for key in keys)
