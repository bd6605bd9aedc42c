"""Ways to fold what the microbatches return into one value."""

import operator
from collections.abc import Callable
from typing import Any

import torch


class _CustomReducer:
    """Folds the chunks' values into one, in the order of the microbatches.

    Args:
        init_value: What the fold begins with.
        reduce_fn: Takes what has been folded so far and the next chunk's value.

    Example:
        >>> product = _CustomReducer(1.0, lambda so_far, value: so_far * value)
        >>> product.fold([2.0, 3.0])
        6.0
    """

    def __init__(self, init_value: Any, reduce_fn: Callable[[Any, Any], Any]) -> None:
        self.init_value = init_value
        self.reduce_fn = reduce_fn

    def fold(self, values: list[Any]) -> Any:
        """The fold over the values of all chunks.

        Args:
            values: One for each microbatch.
        """
        folded = self.init_value
        for value in values:
            folded = self.reduce_fn(folded, value)
        return folded


class _LossReducer(_CustomReducer):
    """Folds the losses of the microbatches."""


sum_reducer = _LossReducer(torch.tensor(0.0), operator.add)
