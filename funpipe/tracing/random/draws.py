"""Random operators in a trace: each becomes a function of a key of its own, which is a leaf of the graph.

The position of a draw is its number in the trace of the forward. While a trace runs, torch's own generator says where
it is: its seed stands for the position, and each draw moves it on. So whoever saves the generator's state and restores
it, as `torch.utils.checkpoint` does around a part that it computes again, gets the same positions, and the same masks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from funpipe.functional.random.operators import DRAWN, drawn
from funpipe.tracing.random.functions import Functions
from funpipe.tracing.random.kept_masks import KEPT_MASKS

_FIRST = 0x66756E7069706500
"""The generator's seed before the first draw: no user's seed is near it."""

MICROBATCH = "microbatch"
"""The name of the leaf that is the key of the microbatch itself; others are called by their position."""


@torch.library.custom_op("funpipe::random_key", mutates_args=())
def random_key(position: int, device: torch.device) -> Tensor:
    """The key of a draw in a raw graph, by its position, -1 for that of the microbatch; never part of a `Traced`."""
    return torch.zeros((), dtype=torch.int64, device=device)


@random_key.register_fake
def _(position: int, device: torch.device) -> Tensor:
    return torch.empty((), dtype=torch.int64, device=device)


KEY = torch.ops.funpipe.random_key.default


def name_of(position: int) -> str:
    """The name of a key's leaf."""
    return MICROBATCH if position < 0 else str(position)


def microbatch_key(device: str) -> Tensor:
    """The key of the microbatch, for a loss function that asks for it."""
    return KEY(-1, torch.device(device))


def _written(func: Any) -> list[int]:
    """The places of the arguments that an operator writes to."""
    return [i for i, a in enumerate(func._schema.arguments) if a.alias_info is not None and a.alias_info.is_write]


class Draws:
    """What one trace draws.

    Args:
        device: the type of the device that keys are on.
        trains: False switches dropout off.
    """

    def __init__(self, device: str, trains: bool = True) -> None:
        self.device, self.trains = torch.device(device), trains
        self.positions: dict[int, int] = {}

    @property
    def table(self) -> dict[Any, Callable[..., Any]]:
        """For the tracer: random operators, and what to trace in their place."""
        return {func: partial(self._drawn, func) for func in DRAWN} | KEPT_MASKS

    @contextmanager
    def counting(self) -> Iterator[None]:
        """While open, draws have positions; torch's generator is afterwards where it was."""
        with torch.random.fork_rng(devices=[]), Functions(self.trains):
            torch.default_generator.manual_seed(_FIRST)
            yield

    def _drawn(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        value = drawn(func, self._next(), args, kwargs)
        written = _written(func)
        if not written:
            return value
        if written == [0]:
            return args[0].copy_(value)
        args[1].copy_(value[1])  # the slopes of rrelu
        return args[0].copy_(value[0]) if 0 in written else value[0]

    def _next(self) -> Tensor:
        """The key of the draw at which the generator is; the generator moves on."""
        seed = torch.default_generator.initial_seed()
        position = self.positions.setdefault(seed, len(self.positions))
        torch.default_generator.manual_seed(_FIRST + position + 1)
        return KEY(position, self.device)
