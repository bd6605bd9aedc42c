"""One tensor: cut into chunks along a dimension, and joined again."""

from collections.abc import Sequence

import torch
from torch import Tensor

from funpipe.interop.pipelining.microbatch.masking import mask, masked, unmask


def split_tensor(tensor: Tensor, dim: int, count: int) -> list[Tensor]:
    """Cuts a tensor into chunks of consecutive rows; where the count does not divide, the first ones have a row more.

    Args:
        tensor: Any tensor.
        dim: The dimension of the rows.
        count: How many chunks; at most as many as rows.

    Returns:
        Views of the tensor. Those of a leaf that requires a gradient keep their own `.grad`.

    Example:
        >>> [chunk.tolist() for chunk in split_tensor(torch.arange(5), 0, 2)]
        [[0, 1, 2], [3, 4]]
    """
    chunks = list(torch.tensor_split(tensor, count, dim))
    if masked():
        chunks = mask(chunks, tensor, dim)
    return [keep_grad(chunk, tensor) for chunk in chunks]


def join_tensors(chunks: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenates chunks.

    Args:
        chunks: Tensors that differ at most in their size along `dim`.
        dim: The dimension of the rows.

    Example:
        >>> join_tensors([torch.zeros(2), torch.ones(1)], 0)
        tensor([0., 0., 1.])
    """
    return torch.cat(unmask(chunks, dim) if masked() else list(chunks), dim)


def keep_grad(chunk: Tensor, whole: Tensor) -> Tensor:
    """Has a chunk of a leaf keep its own gradient, as the leaf does.

    Args:
        chunk: Made from `whole`.
        whole: The user's tensor.

    Returns:
        The chunk.
    """
    if whole.is_leaf and chunk.requires_grad and not chunk.is_leaf:
        chunk.retain_grad()
    return chunk
