"""What the microbatches returned, merged into what the whole batch would have returned."""

from collections.abc import Sequence
from typing import Any

from optree import PyTreeSpec

from funpipe.interop.pipelining.errors import PipeIndexError, PipeValueError
from funpipe.interop.pipelining.microbatch.columns import merge_column
from funpipe.interop.pipelining.microbatch.pairs import Pair, outline, pair
from funpipe.interop.pipelining.trees import flatten, unflatten


def merge_chunks(chunks: list[Any], chunk_spec: Any = None) -> Any:
    """Merges the chunks of all microbatches.

    Args:
        chunks: A tree for each microbatch, all of one structure.
        chunk_spec: A spec for each leaf, or a tree of them; None: tensors are joined along dimension 0, those without
            dimensions become a vector of as many as there are chunks, and other values must be the same in all chunks.

    Returns:
        One tree of the chunks' structure. Where the spec is a tree of another structure with as many leaves, the result
        has the structure of the spec.

    Raises:
        PipeAssertionError: Values that must be the same differ, or DTensors have different placements.
        PipeIndexError: There is no chunk.
        PipeRuntimeError: Tensors do not fit together, or have no dimension.
        PipeTypeError: A spec joins what is no tensor.
        PipeValueError: The chunks have different structures, or another one than the spec.

    Example:
        >>> import torch
        >>> from funpipe.interop.pipelining.microbatch import _CustomReducer
        >>> total = _CustomReducer(0.0, lambda so_far, loss: so_far + loss)
        >>> first, second = {"y": torch.zeros(1), "loss": 1.0}, {"y": torch.ones(1), "loss": 2.0}
        >>> merge_chunks([first, second], {"y": None, "loss": total})
        {'y': tensor([0., 1.]), 'loss': 3.0}
    """
    if not chunks:
        raise PipeIndexError("merge_chunks got no chunks; pass at least one.")
    pairs, structure = _pairs(chunks[0], chunk_spec)
    columns = zip(*_same_structure(chunks), strict=True)
    merged = [merge_column(leaf, list(column)) for leaf, column in zip(pairs, columns, strict=True)]
    return unflatten(structure, merged)


def _pairs(chunk: Any, spec: Any) -> tuple[list[Pair], PyTreeSpec]:
    paired = pair(chunk, spec, "chunk")
    if paired is not None:
        return paired
    leaves, _ = pair(chunk, None, "chunk") or ([], None)
    specs, structure = flatten(spec)
    if len(leaves) != len(specs):
        raise PipeValueError(
            f"Chunk {outline(chunk)} did not match chunk spec {outline(spec)}: {len(leaves)} leaves, "
            f"{len(specs)} specs; give a spec for each leaf, or None for the default of all."
        )
    return [Pair(leaf.name, leaf.value, own) for leaf, own in zip(leaves, specs, strict=True)], structure


def _same_structure(chunks: Sequence[Any]) -> list[list[Any]]:
    """The leaves of each chunk."""
    flat = [flatten(chunk) for chunk in chunks]
    for i, (_, structure) in enumerate(flat):
        if structure != flat[0][1]:
            raise PipeValueError(
                f"Chunk {i} is {outline(chunks[i])}, but chunk 0 is {outline(chunks[0])}; "
                f"return the same structure from every microbatch."
            )
    return [leaves for leaves, _ in flat]
