"""The numbers of a draw, laid out: counter `b` of `n` gives the elements `b`, `n + b`, `2n + b` and `3n + b`.

So each of the four words of a counter fills a contiguous quarter of the result, and nothing is interleaved: in compiled
code all four are written with vector instructions in one loop.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from funpipe.functional.random.philox import DRAW, Words, words_of

Mapped = Callable[[Words], Sequence[Tensor]]
"""Makes of the words of a counter one value for each of some elements."""


def draw(key: Tensor, shape: Sequence[int], per_counter: int, mapped: Mapped, device: torch.device | None) -> Tensor:
    """As many values as a shape has elements.

    Args:
        key: 0-dim int64.
        shape: of the result.
        per_counter: how many elements a counter is for.
        mapped: gives them, from its words.
        device: where to draw; None: where the key is.

    Returns:
        The values, laid out in rows.
    """
    numel = prod(shape)
    counters = torch.arange(-(-numel // per_counter), device=device or key.device)
    flat = torch.cat(list(mapped(words_of(key.to(counters.device), counters, DRAW))))
    return flat[:numel].reshape(tuple(shape))
