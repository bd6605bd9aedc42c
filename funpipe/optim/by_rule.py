"""An elementwise optimizer from its rule for one element."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from funpipe.optim.base import Entries, Optimizer, State, describe, zero_slots
from funpipe.optim.elementwise import Rule, update_entries
from funpipe.optim.learning_rates import as_learning_rate, given_rate
from funpipe.optim.settings import Settings


def by_rule(
    kind: str,
    rule: Rule,
    slots: tuple[str, ...],
    scalars: Callable[[Tensor, Tensor], Entries],
    settings: dict[str, Any],
    init: Callable[[Entries], State] | None = None,
) -> Optimizer:
    """An optimizer whose update is a rule for one entry.

    Args:
        kind: its name.
        rule: `rule(p, g, *slots, c) -> (p, *slots)`, elementwise; `c` are the scalars.
        slots: the names of its slots.
        scalars: `scalars(step, lr)`, what depends on the step and the learning rate alone, in float64.
        settings: what it was made from; `lr` among them.
        init: the first state; None: zeros.
    """
    rate = as_learning_rate(kind, settings["lr"])
    return Optimizer(
        init=init or (lambda params: zero_slots(params, *slots)),
        update=partial(update_entries, lambda label: rule, slots),
        scalars=lambda step: scalars(step, rate(step)),
        name=describe(kind, **settings),
        scalars_at=lambda step, lr: scalars(step, given_rate(kind, lr)),
        settings=Settings.of(kind, **settings),
    )


def decayed(g: Tensor, p: Tensor, weight_decay: float) -> Tensor:
    """The gradient, with weight decay as part of it."""
    return g + weight_decay * p if weight_decay else g


def moving(average: Tensor, x: Tensor, kept: float) -> Tensor:
    """An exponential moving average."""
    return kept * average + (1 - kept) * x
