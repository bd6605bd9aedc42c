"""The table of all of them."""

from contextlib import AbstractContextManager
from typing import Any

from funpipe import _compat
from funpipe.tracing.decompositions import batch_norm, ctc_loss, data_shapes, grouped_mm, lstm, zero_tangents

DECOMPOSITIONS = {
    **batch_norm.DECOMPOSITIONS,
    **ctc_loss.DECOMPOSITIONS,
    **data_shapes.DECOMPOSITIONS,
    **grouped_mm.DECOMPOSITIONS,
    **lstm.DECOMPOSITIONS,
    **zero_tangents.DECOMPOSITIONS,
}
"""Operators, and what is traced in their place."""


def decomposing() -> AbstractContextManager[Any]:
    """A mode in which these operators do what the table says, for functions that run on stand-ins and are not traced.

    Returns:
        A context manager.

    Example:
        >>> import torch
        >>> with decomposing():
        ...     loss = torch.nn.functional.ctc_loss(
        ...         torch.zeros(4, 1, 3), torch.tensor([[1]]), torch.tensor([4]), torch.tensor([1])
        ...     )
        >>> loss.shape
        torch.Size([])
    """
    return _compat.seeing_operators(_decomposed)


def _decomposed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = DECOMPOSITIONS[func](*args, **kwargs) if func in DECOMPOSITIONS else NotImplemented
    return func(*args, **kwargs) if made is NotImplemented else made
