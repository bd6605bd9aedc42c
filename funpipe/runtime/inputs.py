"""A batch as the inputs of a step: its leaves by name, its types, and one microbatch of it for tracing."""

from dataclasses import dataclass, replace
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._errors import TreeError
from funpipe._typing import TensorType, Tree
from funpipe.functional.batch_spec import check_divides, resolve
from funpipe.functional.microbatch import split
from funpipe.functional.tree import named_leaves, place


@dataclass(frozen=True, eq=False)
class BatchInputs:
    """A checked batch.

    Args:
        leaves: by name.
        dims: the dimension along which each leaf is split, None for a replicated one.
        key: what decides whether a compiled step fits: names, shapes and dtypes.
        structure: the tree's structure.
    """

    leaves: dict[str, Tensor]
    dims: dict[str, int | None]
    key: tuple[tuple[str, TensorType], ...]
    structure: Any

    @staticmethod
    def of(batch: Tree, count: int, spec: Tree) -> "BatchInputs":
        """Checks a batch.

        Args:
            batch: a pytree of tensors.
            count: into how many microbatches it is split.
            spec: the batch dimension of each leaf.

        Raises:
            BatchError: it does not divide, or its leaves disagree.
            TreeError: a leaf is no tensor.
        """
        leaves, structure = named_leaves(batch, what="batch")
        resolved, _ = resolve(batch, spec)
        check_divides(resolved, count)
        dims = {leaf.name: leaf.dim for leaf in resolved if leaf.value is not None}
        key = tuple((n, replace(TensorType.of(t), stride=(), device="")) for n, t in leaves.items())
        return BatchInputs(leaves, {n: dims[n] for n in leaves}, key, structure)

    def require_like(self, other: "BatchInputs") -> None:
        """Raises unless another batch differs from this one at most in the sizes of its leaves."""
        if other.structure != self.structure:
            raise TreeError(
                f"batch: its structure is {other.structure}, but that of the batch given to init was {self.structure}; "
                "pass the same structure, or make another step."
            )
        for (name, kind), (_, have) in zip(self.key, other.key, strict=True):
            if kind.dtype != have.dtype or len(kind.shape) != len(have.shape):
                raise TreeError(
                    f"batch: {place(name)} is {have}, but was {kind} in the batch given to init; only sizes may change: "
                    f"pass {str(kind.dtype).removeprefix('torch.')} with {len(kind.shape)} dimensions."
                )


def one_microbatch(batch: Tree, count: int, spec: Tree) -> Tree:
    """One microbatch of a batch, on the meta device."""
    shapes = optree.tree_map(lambda t: torch.empty_like(t, device="meta"), batch)
    return split(shapes, count, spec)[0]
