"""Dropout with a key."""

from torch import Tensor

from funpipe.functional.random.uniform import keep


def dropout(key: Tensor, x: Tensor, p: float = 0.5) -> Tensor:
    """Zeros elements, and scales the others so that the mean stays.

    Args:
        key: 0-dim int64; the same key gives the same mask.
        x: floating-point, any shape.
        p: the probability of a zero, to the nearest multiple of 2**-32.

    Returns:
        `x * mask / (1 - p)`.

    Raises:
        FunpipeError: the probability is not in [0, 1].

    Source:
        Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (2014).

    Example:
        >>> import torch, funpipe as fp
        >>> dropout(fp.random.key(7), torch.ones(4), 0.5)
        tensor([0., 0., 2., 2.])
    """
    mask = keep(key, x.shape, 1.0 - p, device=x.device)
    return scaled(x, mask, p)


def scaled(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """A value where a mask of bytes is 1, scaled so that the mean stays.

    Args:
        x: a value, or the gradient of dropout's result.
        mask: uint8, of the same shape.
        p: the probability of a 0.
    """
    return x * (mask.to(x.dtype) * (0.0 if p == 1 else 1.0 / (1.0 - p)))
