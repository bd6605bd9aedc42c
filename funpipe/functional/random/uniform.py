"""Uniform numbers, and decisions by them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.functional.random.blocks import draw
from funpipe.functional.random.philox import Words

_BITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
"""The bits of a number's fraction, so that none is rounded up to 1."""


def uniform(
    key: Tensor,
    shape: Sequence[int] = (),
    low: float = 0.0,
    high: float = 1.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Uniform numbers in `[low, high)`.

    Args:
        key: 0-dim int64.
        shape: of the result.
        low, high: the bounds.
        dtype: a floating-point dtype; before scaling, the numbers are multiples of 2**-24 in float32, of 2**-53 in
            float64, of 2**-11 in float16 and of 2**-8 in bfloat16.
        device: where to draw; by default where the key is.

    Returns:
        The numbers: the same bits on every backend.

    Raises:
        FunpipeTypeError: the dtype is not a floating-point one.

    Example:
        >>> import funpipe as fp
        >>> uniform(fp.random.key(7), (2,))
        tensor([0.9546, 0.7502])
    """
    bits = bits_of(dtype)
    if bits > 32:
        unit = draw(key, shape, 2, doubles, device)
    else:
        unit = draw(key, shape, 4, lambda words: [_unit(w, bits, dtype) for w in words], device)
    return unit if (low, high) == (0.0, 1.0) else unit * (high - low) + low


def bits_of(dtype: torch.dtype) -> int:
    """How many random bits a number of a dtype has."""
    if dtype not in _BITS:
        raise FunpipeTypeError(f"the dtype is {dtype}; pass a floating-point one, such as torch.float32.")
    return _BITS[dtype]


def _unit(word: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    return (word >> (32 - bits)).to(torch.float32).mul(2.0**-bits).to(dtype)


def doubles(words: Words) -> list[Tensor]:
    """One double of each two words."""
    return [((a << 21) | (b >> 11)).to(torch.float64) * 2.0**-53 for a, b in (words[:2], words[2:])]


def bernoulli(
    key: Tensor, p: float | Tensor, shape: Sequence[int] | None = None, *, device: torch.device | None = None
) -> Tensor:
    """Decisions, true with a probability.

    Args:
        key: 0-dim int64.
        p: the probability, to the nearest multiple of 2**-32; or a tensor of them, compared with numbers that are
            multiples of 2**-24 (of 2**-53 for float64).
        shape: of the result; by default that of `p`.
        device: where to draw; by default where `p` or the key is.

    Returns:
        A boolean tensor.

    Raises:
        FunpipeError: the probability is not in [0, 1].

    Example:
        >>> import funpipe as fp
        >>> bernoulli(fp.random.key(7), 0.5, (4,))
        tensor([False, False,  True,  True])
    """
    if not isinstance(p, Tensor):
        return keep(key, () if shape is None else shape, p, device=device).to(torch.bool)
    dtype = p.dtype if p.dtype == torch.float64 else torch.float32
    drawn = uniform(key, p.shape if shape is None else shape, dtype=dtype, device=device or p.device)
    return drawn < p


def keep(key: Tensor, shape: Sequence[int], p: float, *, device: torch.device | None = None) -> Tensor:
    """A mask of bytes, 1 with a probability: what dropout multiplies with.

    Args:
        key: 0-dim int64.
        shape: of the result.
        p: the probability of a 1, to the nearest multiple of 2**-32.
        device: where to draw; by default where the key is.

    Returns:
        A uint8 tensor of zeros and ones.

    Raises:
        FunpipeError: the probability is not in [0, 1].

    Example:
        >>> import funpipe as fp
        >>> keep(fp.random.key(7), (4,), 0.5)
        tensor([0, 0, 1, 1], dtype=torch.uint8)
    """
    if not 0 <= p <= 1:
        raise FunpipeError(f"the probability is {p}; pass one between 0 and 1, such as {min(max(p, 0), 1)}.")
    threshold = round(p * 2**32)
    # The sign of the difference: a comparison would make Inductor write each byte by itself.
    return draw(key, shape, 4, lambda words: [((w - threshold) >> 63).neg().to(torch.uint8) for w in words], device)
