"""The global norm of the gradients, defined so that it does not depend on how a model is cut."""

from collections.abc import Mapping

import torch
from torch import Tensor


def square_sum(grad: Tensor) -> Tensor:
    """The sum of squares of one leaf's gradient.

    Args:
        grad: any shape, floating-point.

    Returns:
        A 0-dim tensor: float64 for a float64 gradient, else float32.

    Example:
        >>> import torch
        >>> square_sum(torch.tensor([3.0, 4.0], dtype=torch.bfloat16))
        tensor(25.)
    """
    flat = grad.reshape(-1).to(torch.promote_types(grad.dtype, torch.float32))
    return (flat * flat).sum()


def norm_of_squares(squares: Mapping[str, Tensor]) -> Tensor:
    """The global norm from each leaf's sum of squares.

    Args:
        squares: `square_sum` of each leaf, by the leaf's name; a tied leaf once.

    Returns:
        The root of their sum, added one by one in the order of the names (optree's order of a dict); 0-dim.

    Example:
        >>> import torch
        >>> norm_of_squares({"b": torch.tensor(9.0), "a": torch.tensor(16.0)})
        tensor(5.)
    """
    if not squares:
        return torch.zeros(())
    first, *rest = (squares[name] for name in sorted(squares))
    total = first
    for square in rest:
        total = total + square
    return total.sqrt()


def norm_of(grads: Mapping[str, Tensor]) -> Tensor:
    """The global norm of gradients.

    Args:
        grads: all of the model's, by the leaf's name.

    Returns:
        0-dim.

    Example:
        >>> import torch
        >>> norm_of({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
        tensor(5.)
    """
    return norm_of_squares({name: square_sum(grad) for name, grad in grads.items()})
