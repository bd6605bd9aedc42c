"""A batch as the inputs of a step: its leaves by name, its types, and one microbatch of it for tracing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._errors import TreeError
from funpipe._typing import TensorType, Tree
from funpipe.functional.batch_spec import check_divides, resolve
from funpipe.functional.microbatch import split
from funpipe.functional.names import check_names
from funpipe.functional.tree import named_leaves, place


@dataclass(frozen=True, eq=False)
class BatchInputs:
    """A checked batch.

    Args:
        leaves: by name.
        dims: the dimension along which each leaf is split, None for a replicated one.
        key: what decides whether a compiled step fits: names, shapes and dtypes.
        structure: the tree's structure.
        digest: a hash of the key: the same number, never negative, in every process.
    """

    leaves: dict[str, Tensor]
    dims: dict[str, int | None]
    key: tuple[tuple[str, TensorType], ...]
    structure: Any
    digest: int

    @staticmethod
    def of(batch: Tree, count: int, spec: Tree, like: "BatchInputs | None" = None) -> "BatchInputs":
        """Checks a batch.

        Args:
            batch: a pytree of tensors.
            count: into how many microbatches it is split.
            spec: the batch dimension of each leaf.
            like: an earlier batch, from which this one may differ in the sizes of its leaves alone.

        Raises:
            BatchError: it does not divide, or its leaves disagree.
            TreeError: a leaf is no tensor, or not like the earlier one.
        """
        leaves, structure = named_leaves(batch, what="batch")
        key = tuple((n, replace(TensorType.of(t), stride=(), device="")) for n, t in leaves.items())
        if like is not None:
            like._require_like(structure, key)
        resolved, _ = resolve(batch, spec)
        check_divides(resolved, count)
        dims = {leaf.name: leaf.dim for leaf in resolved if leaf.value is not None}
        return BatchInputs(leaves, {n: dims[n] for n in leaves}, key, structure, _digest(key))

    def with_leaves(self, leaves: Sequence[Tensor]) -> "BatchInputs":
        """The same with other tensors: those of a batch whose `signature` is the same."""
        return BatchInputs(
            dict(zip(self.leaves, leaves, strict=True)), self.dims, self.key, self.structure, self.digest
        )

    def difference_text(self, other: "BatchInputs") -> str:
        """The leaves whose sizes another batch changes."""
        pairs = zip(self.key, other.key, strict=True)
        return "; ".join(f"{place(n)} is {have}, not {kind}" for (n, kind), (_, have) in pairs if kind != have)

    def _require_like(self, structure: Any, key: tuple[tuple[str, TensorType], ...]) -> None:
        check_names([n for n, _ in self.key], [n for n, _ in key], what="batch")
        if structure != self.structure:
            raise TreeError(
                f"batch: its structure is {structure}, but that of the batch given to init was {self.structure}; "
                "pass the same structure, or make another step."
            )
        for (name, kind), (_, have) in zip(self.key, key, strict=True):
            if kind.dtype != have.dtype or len(kind.shape) != len(have.shape):
                raise TreeError(
                    f"batch: {place(name)} is {have}, but was {kind} in the batch given to init; only sizes may "
                    f"change: pass {str(kind.dtype).removeprefix('torch.')} with {len(kind.shape)} dimensions."
                )


def _digest(key: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest(), "big")


def signature(batch: Tree) -> tuple[list[Tensor], Any]:
    """What can be told of a batch at little cost: its leaves, and a value that is equal where `BatchInputs.of` agrees.

    Args:
        batch: anything.

    Returns:
        The leaves, and their structure, shapes and dtypes as a key of dicts; None if a leaf is no tensor.

    Example:
        >>> signature({"x": torch.ones(2)})[1] == signature({"x": torch.zeros(2)})[1]
        True
    """
    leaves, structure = optree.tree_flatten(batch)
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        return [], None
    return leaves, (structure, *[(leaf.shape, leaf.dtype) for leaf in leaves])


def one_microbatch(batch: Tree, count: int, spec: Tree) -> Tree:
    """One microbatch of a batch, on the meta device."""
    shapes = optree.tree_map(lambda t: torch.empty_like(t, device="meta"), batch)
    return split(shapes, count, spec)[0]
