"""Uniform integers and permutations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.functional.random.blocks import draw
from funpipe.functional.random.philox import MASK, Words


def randint(
    key: Tensor,
    shape: Sequence[int],
    low: int,
    high: int,
    *,
    dtype: torch.dtype = torch.int64,
    device: torch.device | None = None,
) -> Tensor:
    """Uniform integers in `[low, high)`.

    Args:
        key: 0-dim int64.
        shape: of the result.
        low, high: the bounds; at most 2**31 - 1 apart.
        dtype: of the result.
        device: where to draw; by default where the key is.

    Returns:
        The integers. Where their number is no power of two, some are more likely than others by a part in 2**32.

    Raises:
        FunpipeError: there is no integer between the bounds, or there are too many.

    Example:
        >>> import funpipe as fp
        >>> randint(fp.random.key(7), (4,), 0, 10)
        tensor([9, 7, 1, 0])
    """
    if not 0 < high - low < 2**31:
        raise FunpipeError(f"randint: low is {low} and high is {high}; pass low < high, at most {2**31 - 1} apart.")
    return draw(key, shape, 4, lambda words: [low + ((w * (high - low)) >> 32) for w in words], device).to(dtype)


def permutation(key: Tensor, count: int, *, device: torch.device | None = None) -> Tensor:
    """The integers below a number, in random order.

    Args:
        key: 0-dim int64.
        count: how many.
        device: where to draw; by default where the key is.

    Returns:
        int64, shape `(count,)`.

    Example:
        >>> import funpipe as fp
        >>> permutation(fp.random.key(7), 4).sort().values
        tensor([0, 1, 2, 3])
    """
    return torch.argsort(draw(key, (count,), 2, _wide, device), stable=True)


def _wide(words: Words) -> list[Tensor]:
    """63 bits of each two words: the same number twice is out of the question."""
    return [(a << 31) | (b & (MASK >> 1)) for a, b in (words[:2], words[2:])]
