"""Rprop: each element has a step size of its own, and of the gradient only the sign is read."""

from functools import partial

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, Optimizer, State, describe, zero_slots
from funpipe.optim.checks import check_at_least_zero
from funpipe.optim.elementwise import update_entries
from funpipe.optim.settings import Settings

SLOTS = ("previous", "size")
"""The last gradient, and the step size of each element."""


def rprop(
    lr: float = 0.01, etas: tuple[float, float] = (0.5, 1.2), step_sizes: tuple[float, float] = (1e-6, 50.0)
) -> Optimizer:
    """Rprop, equal to `torch.optim.Rprop`.

    Where the gradient has the sign of the last one, its step size grows by η₊, where it has the other one it shrinks by
    η₋ and the gradient counts as 0:  p ← p - sign(g) size.

    Args:
        lr: the first step size of every element, at least 0.
        etas: η₋ in (0, 1) and η₊ above 1.
        step_sizes: the smallest and the largest step size.

    Returns:
        An `Optimizer` whose state is `{"previous": {...}, "size": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, rprop
        >>> params, optimizer = {"w": torch.ones(2)}, rprop(0.1)
        >>> apply(optimizer, params, {"w": torch.tensor([5.0, -0.5])}, optimizer.init(params), torch.tensor(0))[0]
        {'w': tensor([0.9000, 1.1000])}

    Source: M. Riedmiller and H. Braun, A direct adaptive method for faster backpropagation learning (1993).
    """
    check_at_least_zero("rprop: lr", lr, 0.01)
    if not 0 < etas[0] < 1 < etas[1]:
        raise FunpipeError(f"rprop: etas is {etas}; pass one in (0, 1) and one above 1, such as (0.5, 1.2)")
    settings = {"lr": lr, "etas": etas, "step_sizes": step_sizes}
    rule = partial(_rule, etas=etas, step_sizes=step_sizes)
    return Optimizer(
        init=partial(_init, lr),
        update=partial(update_entries, lambda label: rule, SLOTS),
        name=describe("rprop", **settings),
        settings=Settings.of("rprop", **settings),
    )


def _init(lr: float, params: Entries) -> State:
    state = zero_slots(params, *SLOTS)
    return state | {"size": {n: torch.full_like(leaf, lr) for n, leaf in state["size"].items()}}


def _rule(
    p: Tensor,
    g: Tensor,
    previous: Tensor,
    size: Tensor,
    c: Entries,
    *,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
) -> tuple[Tensor, ...]:
    sign = g * previous
    size = torch.where(sign > 0, etas[1] * size, torch.where(sign < 0, etas[0] * size, size)).clamp(*step_sizes)
    g = torch.where(sign < 0, torch.zeros_like(g), g)
    return p - g.sign() * size, g, size
