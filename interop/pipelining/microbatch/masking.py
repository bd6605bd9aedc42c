"""Chunks for debugging: of the size of the whole, with zeros where other chunks' rows are."""

from collections.abc import Sequence

import torch
from torch import Tensor


def masked() -> bool:
    """Whether the user has set `microbatch._debug_mask_minibatches`."""
    # Looked up at each use: users switch it by setting the module's variable.
    from funpipe.interop.pipelining import microbatch

    return microbatch._debug_mask_minibatches


def mask(chunks: Sequence[Tensor], whole: Tensor, dim: int) -> list[Tensor]:
    """Puts each chunk where it was, on zeros.

    Args:
        chunks: Consecutive rows of `whole`, all of them.
        whole: The tensor they are from.
        dim: The dimension of the rows.

    Example:
        >>> [chunk.tolist() for chunk in mask([torch.ones(2), torch.ones(1)], torch.ones(3), 0)]
        [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    starts = [sum(chunk.size(dim) for chunk in chunks[:i]) for i in range(len(chunks))]
    return [_placed(chunk, whole, dim, start) for chunk, start in zip(chunks, starts, strict=True)]


def unmask(chunks: Sequence[Tensor], dim: int) -> list[Tensor]:
    """Takes out of each masked chunk its own rows.

    Args:
        chunks: All of one size.
        dim: The dimension of the rows.

    Example:
        >>> unmask([torch.tensor([1, 2, 0]), torch.tensor([0, 0, 3])], 0)
        [tensor([1, 2]), tensor([3])]
    """
    return [torch.tensor_split(chunk, len(chunks), dim)[i] for i, chunk in enumerate(chunks)]


def _placed(chunk: Tensor, whole: Tensor, dim: int, start: int) -> Tensor:
    zeros = torch.zeros_like(whole)
    zeros.narrow(dim, start, chunk.size(dim)).copy_(chunk)
    return zeros
