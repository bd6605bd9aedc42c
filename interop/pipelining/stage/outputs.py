"""What a stage's module returns, as tuples: its parts, or its tensors alone."""

from typing import Any

import torch

from funpipe.interop.pipelining import trees


def _normalize_model_output_as_tuple(output: Any) -> tuple[Any, ...]:
    """The output as a tuple: a tuple as it is, a list's items, anything else as the one item.

    Args:
        output: what a module returned.

    Returns:
        Its parts, which may be trees.

    Example:
        >>> _normalize_model_output_as_tuple([1, 2]), _normalize_model_output_as_tuple({"a": 1})
        ((1, 2), ({'a': 1},))
    """
    return tuple(output) if isinstance(output, (list, tuple)) else (output,)


def flat_tensors(output: Any) -> tuple[torch.Tensor, ...]:
    """The tensors of an output of any structure, in tree order: what later stages count its outputs by.

    Example:
        >>> [tensor.item() for tensor in flat_tensors({"b": (torch.tensor(2), "text"), "a": torch.tensor(1)})]
        [1, 2]
    """
    leaves, _ = trees.flatten(output)
    return tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))


def detached(tree: Any) -> Any:
    """The same tree with its tensors cut off from what made them.

    Example:
        >>> detached({"a": torch.ones((), requires_grad=True), "b": "text"})
        {'a': tensor(1.), 'b': 'text'}
    """
    leaves, structure = trees.flatten(tree)
    return trees.unflatten(structure, (leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves))
