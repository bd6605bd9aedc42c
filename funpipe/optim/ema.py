"""An average of the parameters over the steps, kept beside the optimizer's state."""

from collections.abc import Hashable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, Optimizer, Rate, State
from funpipe.optim.checks import check_between
from funpipe.optim.context import Context
from funpipe.optim.elementwise import computing_dtype
from funpipe.optim.settings import Settings

SLOT = "ema"
"""The slot of the averages."""

WEIGHT = "ema.weight"
"""The scalar: how much of the new parameters enters the average."""


def ema(optimizer: Optimizer, decay: float = 0.999, debias: bool = False) -> Optimizer:
    """Keeps an exponential moving average of the parameters; the update is the optimizer's own.

    After an update of p:  a ← a + w (p - a), with w = 1 - decay and a starting from the first parameters; with `debias`
    w = (1 - decay) / (1 - decayᵗ) at the t-th update, which is Adam's correction of an average that starts from zero:
    the parameters before training do not count.

    `step.ema(state)` returns the averages, `fp.eval_step(fn, like=step, params="ema")` evaluates with them.

    Args:
        optimizer: any, also one with groups.
        decay: in [0, 1).
        debias: whether the average forgets the parameters that it started from.

    Returns:
        An `Optimizer` whose state is the optimizer's and the slot `"ema"`, in the dtype of the parameters.

    Raises:
        FunpipeError: the decay is out of its range, or the optimizer has such a slot.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, ema, sgd
        >>> params, optimizer = {"w": torch.ones(2)}, ema(sgd(0.5), decay=0.5)
        >>> params, state = apply(optimizer, params, {"w": torch.ones(2)}, optimizer.init(params), torch.tensor(0))
        >>> params["w"], state["ema"]["w"]
        (tensor([0.5000, 0.5000]), tensor([0.7500, 0.7500]))

    Source: B. Polyak and A. Juditsky, Acceleration of stochastic approximation by averaging (1992); D. Kingma and
        J. Ba, Adam (2015), section 7.2.
    """
    check_between("ema: decay", decay, 0, 1, "pass a number such as 0.999")
    settings = {"decay": decay, "debias": debias}
    weight = partial(_weight, decay, debias)
    return replace(
        optimizer,
        init=partial(_init, optimizer),
        update=partial(_update, optimizer),
        scalars=lambda step: {**optimizer.scalars(step), WEIGHT: weight(step)},
        scalars_at=partial(_scalars_at, optimizer, weight) if optimizer.scalars_at else None,
        group=cache(partial(_group, optimizer, decay, debias)) if optimizer.group else None,
        name=f"ema({optimizer}, decay={decay}, debias={debias})",
        settings=Settings.of("ema", optimizer=optimizer.settings, **settings) if optimizer.settings else None,
        before_norm=partial(_before_norm, optimizer) if optimizer.before_norm else None,
    )


def _weight(decay: float, debias: bool, step: Tensor) -> Tensor:
    share = torch.full((), 1 - decay, dtype=torch.float64, device=step.device)
    return share / (1 - decay ** (step.to(torch.float64) + 1)) if debias else share


def _init(optimizer: Optimizer, params: Entries) -> State:
    state = optimizer.init(params)
    if SLOT in state:
        raise FunpipeError(f"ema: {optimizer} has a slot {SLOT!r} already; average the parameters once")
    return {**state, SLOT: {name: leaf.detach().clone() for name, leaf in params.items()}}


def _update(optimizer: Optimizer, grads: Entries, state: State, params: Entries, ctx: Context) -> tuple[Entries, State]:
    new, own = optimizer.update(grads, _own(state), params, ctx)
    return new, {**own, SLOT: {name: _moved(state[SLOT][name], p, ctx.scalars[WEIGHT]) for name, p in new.items()}}


def _moved(average: Tensor, p: Tensor, weight: Tensor) -> Tensor:
    dtype = computing_dtype(average)
    kept = average.to(dtype)
    return (kept + weight.to(kept.device, dtype) * (p.to(dtype) - kept)).to(average.dtype)


def _own(state: State) -> State:
    """The optimizer's part of a state."""
    return {name: part for name, part in state.items() if name != SLOT}


def _before_norm(optimizer: Optimizer, grads: Entries, state: State, params: Entries, ctx: Context) -> Entries:
    assert optimizer.before_norm is not None
    return optimizer.before_norm(grads, _own(state), params, ctx)


def _scalars_at(optimizer: Optimizer, weight: partial[Tensor], step: Tensor, lr: Rate) -> Entries:
    assert optimizer.scalars_at is not None
    return {**optimizer.scalars_at(step, lr), WEIGHT: weight(step)}


def _group(optimizer: Optimizer, decay: float, debias: bool, label: Hashable) -> tuple[Optimizer, Hashable, str]:
    assert optimizer.group is not None
    member, inner, name = optimizer.group(label)
    return ema(member, decay, debias), inner, name
