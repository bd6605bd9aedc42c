"""A dimension of the batch whose size changes: checked, and batches of another size to compile for every one."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import optree
import torch

from funpipe._errors import BatchError, FunpipeError, TraceError
from funpipe._typing import Tree
from funpipe.functional.batch_spec import BatchLeaf, resolve, rows_of
from funpipe.runtime.setup import Setup

T = TypeVar("T")


def check_dynamic(batch: Tree, setup: Setup) -> None:
    """Raises unless the dimension that a step calls dynamic is one of its batch.

    Args:
        batch: as a step gets it.
        setup: of the step.

    Raises:
        BatchError: no leaf has it, leaves disagree on its size, or it is the batch dimension for some leaves alone.
    """
    if setup.dynamic is not None:
        _size_and_unit(batch, setup)


def other_sizes(batch: Tree, setup: Setup) -> Iterator[Tree]:
    """Batches like one, of other sizes along its dynamic dimension; values are its own, again and again.

    Args:
        batch: the batch.
        setup: of the step.
    """
    leaves, structure = resolve(batch, setup.dynamic)
    size, unit = _size_and_unit(batch, setup)
    count = size // unit
    half = [count // 2] if count % 2 == 0 else []
    for other in (2 * count, *half, count + 1, count - 1):
        if other > 1:
            yield optree.tree_unflatten(structure, [_resized(leaf, size, other * unit) for leaf in leaves])


def _resized(leaf: BatchLeaf, size: int, other: int) -> object:
    if leaf.dim is None:
        return leaf.value
    index = torch.arange(other, device=leaf.value.device) % size
    return leaf.value.index_select(leaf.dim, index)


def _size_and_unit(batch: Tree, setup: Setup) -> tuple[int, int]:
    """The size, and what it must be a multiple of: the microbatches, where it is the batch dimension."""
    leaves, _ = resolve(batch, setup.dynamic)
    rows, _ = resolve(batch, setup.batch_spec)
    size = rows_of(leaves)
    if size is None:
        raise BatchError("dynamic names no dimension of any leaf of the batch: give one, such as {'tokens': 1}.")
    split = {leaf.dim == row.dim for leaf, row in zip(leaves, rows, strict=True) if leaf.dim is not None}
    if len(split) > 1:
        raise BatchError(
            f"dynamic is {setup.dynamic!r}, the batch dimension of some leaves and another of others: name one "
            "dimension of the data, where each leaf has it."
        )
    return size, setup.num_microbatches if split == {True} else 1


def those_that_work(make: Callable[[Tree], T], batches: Iterator[Tree]) -> Iterator[T]:
    """What a function makes of the batches that it takes.

    Args:
        make: may raise an error of funpipe for a size that the model does not take.
        batches: of other sizes.

    Raises:
        TraceError: it takes none of them.
    """
    failed, works = None, False
    for batch in batches:
        try:
            made = make(batch)
        except FunpipeError as error:
            failed = error
        else:
            works = True
            yield made
    if failed is not None and not works:
        raise TraceError(
            f"dynamic: the loss function cannot be traced at other sizes than that of this batch; at the last one: "
            f"{failed} Leave dynamic out, or make the model take other sizes."
        ) from failed
