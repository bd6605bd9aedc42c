"""Arguments and targets of a whole batch cut into those of its microbatches."""

from collections.abc import Sequence
from typing import Any

from optree import PyTreeSpec

from funpipe.interop.pipelining.errors import PipeAssertionError, PipeRuntimeError, PipeValueError
from funpipe.interop.pipelining.microbatch.leaves import Leaf, leaf_of
from funpipe.interop.pipelining.microbatch.pairs import outline, pair
from funpipe.interop.pipelining.trees import unflatten


def split_args_kwargs_into_chunks(
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    chunks: int,
    args_chunk_spec: tuple[Any, ...] | None = None,
    kwargs_chunk_spec: dict[str, Any] | None = None,
) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    """Cuts the arguments of a call into those of its microbatches.

    Args:
        args: Positional arguments, nested as they like.
        kwargs: Keyword arguments.
        chunks: How many chunks to make; fewer are made where a tensor has fewer rows.
        args_chunk_spec: A spec for each positional argument, or a tree of them; None: tensors along dimension 0, the
            rest replicated.
        kwargs_chunk_spec: The same for each keyword argument.

    Returns:
        The positional and the keyword arguments of each microbatch; equally many. Where the rows do not divide, the
        first microbatches have one more.

    Raises:
        PipeAssertionError: A spec does not begin as the arguments do, or is none.
        PipeIndexError: A tensor has no such dimension.
        PipeRuntimeError: `chunks` is below 1, or a tensor has no rows.
        PipeValueError: A spec cuts what is no tensor.

    Example:
        >>> import torch
        >>> args, kwargs = split_args_kwargs_into_chunks((torch.arange(4), "mean"), {"x": torch.arange(2)}, 2)
        >>> args
        [(tensor([0, 1]), 'mean'), (tensor([2, 3]), 'mean')]
        >>> kwargs
        [{'x': tensor([0])}, {'x': tensor([1])}]
    """
    leaves, structure = _leaves(tuple(args), _tuple(args_chunk_spec), "args")
    named, structure_of_named = _leaves(dict(kwargs or {}), kwargs_chunk_spec, "kwargs")
    count = _count([*leaves, *named], chunks)
    return _trees(leaves, structure, count), _trees(named, structure_of_named, count)


def split_targets(target: Any, chunks: int, chunk_spec: Any = None) -> list[Any]:
    """Cuts the targets of a batch into those of its microbatches.

    Args:
        target: A tensor, or any tree of tensors and other values.
        chunks: How many chunks.
        chunk_spec: A tree of specs; None: tensors along dimension 0, the rest replicated.

    Returns:
        A target for each microbatch, of the same structure.

    Raises:
        PipeValueError: A tensor has fewer rows than there are chunks; or as `split_args_kwargs_into_chunks`.

    Example:
        >>> import torch
        >>> split_targets({"labels": torch.arange(4), "smoothing": 0.1}, 2)
        [{'labels': tensor([0, 1]), 'smoothing': 0.1}, {'labels': tensor([2, 3]), 'smoothing': 0.1}]
    """
    leaves, structure = _leaves(target, chunk_spec, "target")
    for leaf in leaves:
        rows = leaf.rows()
        if rows is not None and rows < chunks:
            raise PipeValueError(
                f"{leaf.name} has {rows} rows along dimension {leaf.dim} for {chunks} microbatches; "
                f"make at most {rows} microbatches."
            )
    return _trees(leaves, structure, _count(leaves, chunks))


def _leaves(tree: Any, spec: Any, name: str) -> tuple[list[Leaf], PyTreeSpec]:
    paired = pair(tree, spec, name)
    if paired is None:
        raise PipeAssertionError(
            f"the chunk spec of {name} is {outline(spec)}, but {name} is {outline(tree)}; "
            f"give a spec for each of {name}, or None for the default of all."
        )
    pairs, structure = paired
    return [leaf_of(pair) for pair in pairs], structure


def _tuple(spec: Any) -> Any:
    """Specs of positional arguments may come as a list."""
    return tuple(spec) if isinstance(spec, list) else spec


def _count(leaves: Sequence[Leaf], chunks: int) -> int:
    if chunks < 1:
        raise PipeRuntimeError(f"number of sections must be larger than 0, got {chunks}; make at least one microbatch.")
    return min([chunks, *(rows for leaf in leaves if (rows := leaf.rows()) is not None)])


def _trees(leaves: Sequence[Leaf], structure: PyTreeSpec, count: int) -> list[Any]:
    columns = [leaf.split(count) for leaf in leaves]
    return [unflatten(structure, [column[i] for column in columns]) for i in range(count)]
