"""One model of the list: how to make it, what to give it, where to cut it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


def own_loss(output: Any) -> Tensor:
    """The loss that a model returns, under its name or as the output itself."""
    return output if isinstance(output, Tensor) else output["loss"]


@dataclass(frozen=True)
class Entry:
    """A model of the list.

    Args:
        name: of its class, as the table shows it.
        build: makes it, the same each time.
        inputs: positional and keyword arguments for a seed; every tensor has its rows along dimension 0.
        two: the modules before which it is cut into two stages.
        four: into four; empty for models without four layers.
        inside: a cut within a block.
        loss: from what the model returns.
        rows: of its batch.
        why: it is on the list.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Given]
    two: tuple[str, ...]
    four: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    loss: Callable[[Any], Tensor] = own_loss
    rows: int = 2
    why: str = ""

    @property
    def cuts(self) -> dict[int, tuple[str, ...]]:
        """The modules before which it is cut, by the number of stages."""
        return {2: self.two} | ({4: self.four} if self.four else {})


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` makes, the same each time, with nothing left at zero and gradients of ordinary size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.05 * torch.randn_like(p))
    return module


def tokens(seed: int, rows: int, length: int, top: int = 99, low: int = 3) -> Tensor:
    """Random integers of `int64[rows, length]`."""
    return torch.randint(low, top, (rows, length), generator=torch.Generator().manual_seed(seed))


def reals(seed: int, *shape: int) -> Tensor:
    """Random numbers of `float32[shape]`."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def padded(rows: int, length: int, missing: int = 4) -> Tensor:
    """A mask `int64[rows, length]`, of which every other row ends with padding."""
    mask = torch.ones(rows, length, dtype=torch.int64)
    mask[1::2, length - missing :] = 0
    return mask
