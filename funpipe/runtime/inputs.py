"""A batch as the inputs of a step: its leaves by name, its types, and one microbatch of it for tracing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import optree
from torch import Tensor

from funpipe._errors import TreeError
from funpipe._typing import TensorType, Tree
from funpipe.functional.batch_spec import check_divides, resolve
from funpipe.functional.fixed import FixedType, fixed, fixed_types
from funpipe.functional.microbatch import split
from funpipe.functional.names import check_names
from funpipe.functional.tree import named_leaves, place

Key = tuple[tuple[str, TensorType | FixedType], ...]
"""Types of the tensors of a batch, and the values that are constants of a step, by name."""


@dataclass(frozen=True, eq=False)
class BatchInputs:
    """A checked batch.

    Args:
        leaves: the tensors, by name.
        dims: the dimension along which each leaf is split, None for a replicated one.
        key: what decides whether a compiled step fits: names, shapes and dtypes, and the values that are no tensors.
        structure: the tree's structure.
        digest: a hash of the key: the same number, never negative, in every process.
    """

    leaves: dict[str, Tensor]
    dims: dict[str, int | None]
    key: Key
    structure: Any
    digest: int

    @staticmethod
    def of(batch: Tree, count: int, spec: Tree, like: "BatchInputs | None" = None) -> "BatchInputs":
        """Checks a batch.

        Args:
            batch: a pytree of tensors; numbers, strings and enums in it are constants of the step.
            count: into how many microbatches it is split.
            spec: the batch dimension of each leaf.
            like: an earlier batch, from which this one may differ in the sizes of its leaves and its constants alone.

        Raises:
            BatchError: it does not divide, or its leaves disagree.
            TreeError: a leaf is neither tensor nor constant, or not like the earlier one.
        """
        batch, spec = fixed(batch), fixed(spec, values=False)
        leaves, structure = named_leaves(batch, what="batch")
        types = tuple((n, replace(TensorType.of(t), stride=(), device="")) for n, t in leaves.items())
        key = (*types, *fixed_types(batch).items())
        if like is not None:
            like._require_like(structure, key)
        resolved, _ = resolve(batch, spec)
        check_divides(resolved, count)
        dims = {leaf.name: leaf.dim for leaf in resolved if leaf.value is not None}
        return BatchInputs(leaves, {n: dims[n] for n in leaves}, key, structure, digest_of(key))

    def require_values(self) -> None:
        """Raises where a leaf has a shape alone.

        Raises:
            TreeError: the leaf is named.
        """
        for name, leaf in self.leaves.items():
            if leaf.is_meta:
                raise TreeError(
                    f"batch: {place(name)} is on the meta device and has no values: pass a batch that has them; init "
                    "and trace take one of shapes alone."
                )

    def with_leaves(self, leaves: Sequence[Tensor]) -> "BatchInputs":
        """The same with other tensors: those of a batch whose `signature` is the same."""
        return BatchInputs(
            dict(zip(self.leaves, leaves, strict=True)), self.dims, self.key, self.structure, self.digest
        )

    def difference_text(self, other: "BatchInputs") -> str:
        """The leaves whose sizes another batch changes."""
        pairs = zip(self.key, other.key, strict=True)
        return "; ".join(f"{place(n)} is {have}, not {kind}" for (n, kind), (_, have) in pairs if kind != have)

    def _require_like(self, structure: Any, key: Key) -> None:
        check_names([n for n, _ in self.key], [n for n, _ in key], what="batch")
        found = dict(key)
        for name, kind in self.key:
            if isinstance(kind, FixedType) != isinstance(found[name], FixedType):
                raise TreeError(_other_kind_text(name, kind, found[name]))
        if structure != self.structure:
            raise TreeError(
                f"batch: its structure is {structure}, but that of the batch given to init was {self.structure}; "
                "pass the same structure, or make another step."
            )
        for (name, kind), (_, have) in zip(self.key, key, strict=True):
            if isinstance(kind, FixedType) or isinstance(have, FixedType):
                continue
            if kind.dtype != have.dtype or len(kind.shape) != len(have.shape):
                raise TreeError(
                    f"batch: {place(name)} is {have}, but was {kind} in the batch given to init; only sizes may "
                    f"change: pass {str(kind.dtype).removeprefix('torch.')} with {len(kind.shape)} dimensions."
                )


def _other_kind_text(name: str, kind: TensorType | FixedType, have: TensorType | FixedType) -> str:
    if isinstance(have, FixedType):
        wrong = f"is of type {have.kind.removeprefix('builtins.')}, not a tensor; make it a tensor"
    else:
        wrong = f"is a tensor, {have}; pass a value that is none"
    return f"batch: {place(name)} {wrong}, for in the batch given to init it was {kind}; or make another step."


@dataclass(frozen=True)
class Seen:
    """A value that was read out of a batch in Python.

    Args:
        text: how it is computed.
        value: as it prints.
        source: the user's line.
    """

    text: str
    value: str
    source: str


def digest_of(key: object) -> int:
    """A hash of how something prints: the same number, never negative, in every process."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest(), "big")


def signature(batch: Tree) -> tuple[list[Tensor], Any]:
    """What can be told of a batch at little cost: its leaves, and a value that is equal where `BatchInputs.of` agrees.

    Args:
        batch: anything.

    Returns:
        The tensors, and the structure, shapes, dtypes and constants as a key of dicts; None if a leaf is none of these.

    Example:
        >>> import torch
        >>> signature({"x": torch.ones(2)})[1] == signature({"x": torch.zeros(2)})[1]
        True
    """
    leaves, structure = optree.tree_flatten(batch)
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        batch = fixed(batch)
        leaves, structure = optree.tree_flatten(batch)
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            return [], None
        structure = (structure, *fixed_types(batch).values())
    return leaves, (structure, *[(leaf.shape, leaf.dtype) for leaf in leaves])


def one_microbatch(batch: Tree, count: int, spec: Tree) -> Tree:
    """The first microbatch of a batch: views of its tensors, and nodes in place of what is none."""
    return split(fixed(batch), count, fixed(spec, values=False))[0]
