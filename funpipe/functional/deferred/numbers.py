"""The random numbers of an initialisation.

The usual distributions fill memory with numpy's Philox4x64 (Salmon et al., SC'11), which takes a few nanoseconds an
element; in operators of torch a counter-based generator takes a hundred times as long, which a compiled step hides and
an initialisation would not. All others are drawn as in a step.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funpipe.functional.deferred.recording import truncated_normal
from funpipe.functional.random import fold_in
from funpipe.functional.random.operators import drawn

Draw = Callable[[np.random.Generator, int, type], np.ndarray]
"""Gives so many numbers of a type."""

_CHUNK = 1 << 20
"""How many numbers are drawn at a time: what is not in its place yet stays small."""


def numbers(func: Any, key: Tensor, count: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a random operator gives, with the numbers of a key.

    Args:
        func: the operator, as recorded.
        key: of the leaf; 0-dim int64.
        count: the number of the call among those of the leaf.
        args, kwargs: its arguments, real tensors; what it writes to is overwritten.

    Returns:
        What the operator returns; NotImplemented if it is not known.
    """
    asked = {name: value for name, value in kwargs.items() if name != "generator"}
    if func in _FILLS and not asked:
        return _fill(args[0], _FILLS[func](*args[1:]), _generator(key, count))
    if func in _MAKES:
        empty, draw = _MAKES[func]
        return _fill(empty(args[0], **asked), draw(), _generator(key, count))
    made = drawn(func, fold_in(key, count), args, kwargs)
    return args[0].copy_(made) if func._schema.is_mutable and isinstance(made, Tensor) else made


def _generator(key: Tensor, count: int) -> np.random.Generator:
    words = np.array([int(key) % (1 << 64), count], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


def _fill(tensor: Tensor, draw: Draw, generator: np.random.Generator) -> Tensor:
    """Writes numbers to a tensor, in the order of its rows whatever its strides."""
    rows = tensor if tensor.is_contiguous() else torch.empty_like(tensor, memory_format=torch.contiguous_format)
    kind = np.float64 if tensor.dtype == torch.float64 else np.float32
    for part in rows.view(-1).split(_CHUNK):
        part.copy_(torch.from_numpy(draw(generator, part.numel(), kind)))
    return tensor if rows is tensor else tensor.copy_(rows)


def _normal(mean: float = 0.0, std: float = 1.0) -> Draw:
    return lambda generator, n, kind: generator.standard_normal(n, kind) * kind(std) + kind(mean)


def _uniform(low: float = 0.0, high: float = 1.0) -> Draw:
    return lambda generator, n, kind: generator.random(n, kind) * kind(high - low) + kind(low)


def _truncated(mean: float, std: float, low: float, high: float) -> Draw:
    """The inverse of the distribution function, between the values that it has at both ends."""
    ends = torch.special.ndtr((torch.tensor([low, high], dtype=torch.float64) - mean) / std)

    def draw(generator: np.random.Generator, n: int, kind: type) -> np.ndarray:
        between = torch.lerp(ends[0], ends[1], torch.from_numpy(generator.random(n)))
        return (torch.special.ndtri(between) * std + mean).clamp(low, high).numpy().astype(kind)

    return draw


_FILLS: dict[Any, Callable[..., Draw]] = {
    torch.ops.aten.normal_.default: _normal,
    torch.ops.aten.uniform_.default: _uniform,
    truncated_normal: _truncated,
}
"""What writes to its first argument."""

_MAKES: dict[Any, tuple[Callable[..., Tensor], Callable[[], Draw]]] = {
    torch.ops.aten.randn.default: (torch.empty, _normal),
    torch.ops.aten.randn_like.default: (torch.empty_like, _normal),
    torch.ops.aten.rand.default: (torch.empty, _uniform),
    torch.ops.aten.rand_like.default: (torch.empty_like, _uniform),
}
"""What makes a tensor."""
