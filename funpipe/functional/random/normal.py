"""Normal numbers, by Box and Muller's transform, and those of a part of the normal distribution."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from funpipe.functional.random.blocks import draw
from funpipe.functional.random.philox import Words
from funpipe.functional.random.uniform import bits_of, doubles, uniform


def normal(
    key: Tensor,
    shape: Sequence[int] = (),
    mean: float = 0.0,
    std: float = 1.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Normal numbers.

    Args:
        key: 0-dim int64.
        shape: of the result.
        mean, std: of the distribution.
        dtype: a floating-point dtype; those of fewer bits are rounded from float32.
        device: where to draw; by default where the key is.

    Returns:
        The numbers. The last bits may differ between backends, which compute logarithms differently.

    Raises:
        FunpipeTypeError: the dtype is not a floating-point one.

    Source:
        Box and Muller, "A note on the generation of random normal deviates" (1958).

    Example:
        >>> import funpipe as fp
        >>> tuple(normal(fp.random.key(7), (2, 3)).shape)
        (2, 3)
    """
    wide = bits_of(dtype) > 32
    unit = draw(key, shape, 2 if wide else 4, _doubles if wide else _floats, device).to(dtype)
    return unit if (mean, std) == (0.0, 1.0) else unit * std + mean


def _floats(words: Words) -> list[Tensor]:
    a, b, c, d = ((w >> 8).to(torch.float32) * 2.0**-24 for w in words)
    return [*_pair(a, b), *_pair(c, d)]


def _doubles(words: Words) -> list[Tensor]:
    return _pair(*doubles(words))


def _pair(radius: Tensor, angle: Tensor) -> list[Tensor]:
    """Two normal numbers of two uniform ones; the logarithm is that of a number in (0, 1]."""
    length = torch.sqrt(-2.0 * torch.log(1.0 - radius))
    turned = angle * (2.0 * math.pi)
    return [length * torch.cos(turned), length * torch.sin(turned)]


def truncated_normal(
    key: Tensor,
    shape: Sequence[int] = (),
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Normal numbers, of which only those between two bounds occur.

    Args:
        key: 0-dim int64.
        shape: of the result.
        mean, std: of the normal distribution that is cut.
        low, high: the bounds, of the numbers themselves.
        dtype: a floating-point dtype.
        device: where to draw; by default where the key is.

    Returns:
        The numbers.

    Example:
        >>> import funpipe as fp
        >>> bool(truncated_normal(fp.random.key(7), (100,)).abs().max() <= 2)
        True
    """
    wide = torch.float64 if bits_of(dtype) > 32 else torch.float32
    below, above = (math.erf((bound - mean) / (std * math.sqrt(2.0))) for bound in (low, high))
    between = uniform(key, shape, below, above, dtype=wide, device=device)
    found = torch.erfinv(between) * (std * math.sqrt(2.0)) + mean
    return found.clamp(low, high).to(dtype)
