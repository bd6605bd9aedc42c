"""Stochastic gradient descent, with momentum (heavy ball or Nesterov's)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, Optimizer, describe, zero_slots
from funpipe.optim.checks import check_at_least_zero
from funpipe.optim.elementwise import update_entries
from funpipe.optim.learning_rates import as_learning_rate, given_rate
from funpipe.optim.settings import Settings


def sgd(
    lr: float | Callable[[Tensor], Tensor],
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Stochastic gradient descent, equal to `torch.optim.SGD`.

    With g the gradient plus `weight_decay` p:  b ← momentum b + (1 - dampening) g (the first time b ← g);
    p ← p - lr b, or p - lr (g + momentum b) with `nesterov`; p - lr g without momentum.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        momentum: at least 0; 0 keeps no state.
        dampening: how much less of the gradient enters the momentum, in [0, 1].
        nesterov: look ahead along the momentum; needs momentum and no dampening.
        weight_decay: added to the gradient, times the parameter.

    Returns:
        An `Optimizer` whose state is `{"momentum": {...}}`, or empty.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, sgd
        >>> params, state = apply(sgd(0.1), {"w": torch.ones(2)}, {"w": torch.ones(2)}, {}, torch.tensor(0))
        >>> params
        {'w': tensor([0.9000, 0.9000])}

    Source: I. Sutskever et al., On the importance of initialization and momentum in deep learning (2013).
    """
    _check(momentum, dampening, nesterov, weight_decay)
    slots, rule = (), partial(_plain, weight_decay=weight_decay)
    if momentum:
        slots, rule = ("momentum",), partial(_heavy, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    rate = as_learning_rate("sgd", lr)
    changed = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "weight_decay": weight_decay}
    dampening = dampening if momentum else 0.0
    return Optimizer(
        init=lambda params: zero_slots(params, *slots),
        update=partial(update_entries, lambda label: rule, slots),
        scalars=lambda step: _scalars(step, rate(step), dampening),
        name=describe("sgd", lr=lr, **{name: value for name, value in changed.items() if value}),
        scalars_at=lambda step, lr: _scalars(step, given_rate("sgd", lr), dampening),
        settings=Settings.of("sgd", lr=lr, **changed),
    )


def _scalars(step: Tensor, lr: Tensor, dampening: float) -> Entries:
    """`intake` is the gradient's weight in the momentum: all of it in the first step, which starts from zero."""
    if not dampening:
        return {"lr": lr}
    return {"lr": lr, "intake": torch.where(step == 0, torch.ones_like(lr), 1 - dampening)}


def _plain(p: Tensor, g: Tensor, c: Entries, *, weight_decay: float) -> tuple[Tensor, ...]:
    return (p - c["lr"] * _decayed(g, p, weight_decay),)


def _heavy(
    p: Tensor, g: Tensor, b: Tensor, c: Entries, *, momentum: float, nesterov: bool, weight_decay: float
) -> tuple[Tensor, ...]:
    g = _decayed(g, p, weight_decay)
    b = momentum * b + (c["intake"] * g if "intake" in c else g)
    return p - c["lr"] * (g + momentum * b if nesterov else b), b


def _decayed(g: Tensor, p: Tensor, weight_decay: float) -> Tensor:
    return g + weight_decay * p if weight_decay else g


def _check(momentum: float, dampening: float, nesterov: bool, weight_decay: float) -> None:
    check_at_least_zero("sgd: momentum", momentum, 0.9)
    check_at_least_zero("sgd: dampening", dampening, 0.0)
    check_at_least_zero("sgd: weight_decay", weight_decay, 0.0)
    if nesterov and (not momentum or dampening):
        raise FunpipeError(
            f"sgd: nesterov with momentum {momentum} and dampening {dampening}; "
            "pass a momentum above 0, such as 0.9, and leave dampening at 0"
        )
