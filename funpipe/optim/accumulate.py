"""One update for the gradients of several steps."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, Optimizer, Rate, State, zero_slots
from funpipe.optim.checks import check_steps
from funpipe.optim.context import Context
from funpipe.optim.elementwise import computing_dtype
from funpipe.optim.settings import Settings

SLOT = "accumulated"
"""The slot of the mean of the gradients since the last update."""

SHARE, DONE = "accumulate.share", "accumulate.done"
"""The scalars: how much of a gradient enters the mean, and 1 where the update is made, else 0."""


def accumulate(optimizer: Optimizer, steps: int) -> Optimizer:
    """Makes one update every `steps` steps, with the mean of their gradients.

    In between, parameters and slots stay as they are, and the optimizer's own count of steps does not grow: learning
    rates and bias corrections count updates. The global norm is that of the mean. All of it is computed in the step,
    without a look at the count from the host: an update is computed in every step, and kept in the last of `steps`.

    Args:
        optimizer: any, also one with groups or a chain.
        steps: of one update, at least 1; one that a loss scale skips does not count.

    Returns:
        An `Optimizer` whose state is the optimizer's and the slot `"accumulated"`.

    Raises:
        FunpipeError: `steps` is below 1, or the optimizer accumulates already.

    Example:
        >>> import torch
        >>> from funpipe.optim import accumulate, apply, sgd
        >>> params, optimizer = {"w": torch.zeros(1)}, accumulate(sgd(1.0), steps=2)
        >>> state = optimizer.init(params)
        >>> for step in range(2):
        ...     params, state = apply(optimizer, params, {"w": torch.tensor([step + 1.0])}, state, torch.tensor(step))
        ...     print(params["w"])
        tensor([0.])
        tensor([-1.5000])

    Source: optax.MultiSteps, whose meaning this is.
    """
    check_steps("accumulate: steps", steps, least=1)
    known = Settings.of("accumulate", optimizer=optimizer.settings, steps=steps) if optimizer.settings else None
    return replace(
        optimizer,
        init=partial(_init, optimizer),
        update=partial(_update, optimizer, steps),
        scalars=lambda step: {**optimizer.scalars(_updates(step, steps)), **_own_scalars(step, steps)},
        scalars_at=partial(_scalars_at, optimizer, steps) if optimizer.scalars_at else None,
        group=cache(partial(_group, optimizer, steps)) if optimizer.group else None,
        name=f"accumulate({optimizer}, steps={steps})",
        settings=known,
        before_norm=_mean if optimizer.needs_norm else None,
    )


def _updates(step: Tensor, steps: int) -> Tensor:
    """The updates made before a step."""
    return torch.div(step, steps, rounding_mode="floor")


def _own_scalars(step: Tensor, steps: int) -> Entries:
    place = torch.remainder(step, steps).to(torch.float64)
    return {SHARE: 1 / (place + 1), DONE: (place == steps - 1).to(torch.float64)}


def _init(optimizer: Optimizer, params: Entries) -> State:
    state = optimizer.init(params)
    if SLOT in state:
        raise FunpipeError(f"accumulate: {optimizer} accumulates already; pass the product of the two counts once")
    return {**state, **zero_slots(params, SLOT)}


def _update(
    optimizer: Optimizer, steps: int, grads: Entries, state: State, params: Entries, ctx: Context
) -> tuple[Entries, State]:
    mean, old = _mean(grads, state, params, ctx), {n: part for n, part in state.items() if n != SLOT}
    new, own = optimizer.update(mean, old, params, replace(ctx, step=_updates(ctx.step, steps)))
    done = ctx.scalars[DONE] != 0
    left = {name: torch.where(done.to(g.device), torch.zeros_like(g), g) for name, g in mean.items()}
    return _chosen(done, new, params), {**_chosen(done, own, old), SLOT: left}


def _mean(grads: Entries, state: State, params: Entries, ctx: Context) -> Entries:
    """The mean of the gradients since the last update, this one's among them."""
    return {name: _joined(state[SLOT][name], grad, ctx.scalars[SHARE]) for name, grad in grads.items()}


def _joined(mean: Tensor, grad: Tensor, share: Tensor) -> Tensor:
    dtype = computing_dtype(mean)
    kept = mean.to(dtype)
    return (kept + share.to(kept.device, dtype) * (grad.to(dtype) - kept)).to(mean.dtype)


def _chosen(done: Tensor, new: Mapping[str, State | Tensor], old: Mapping[str, State | Tensor]) -> State:
    """The new tensors of a state where the update is made, the old ones where it is not."""
    found: State = {}
    for name, part in new.items():
        before = old[name]
        if isinstance(part, Tensor) and isinstance(before, Tensor):
            found[name] = torch.where(done.to(part.device), part, before)
        elif isinstance(part, dict) and isinstance(before, dict):
            found[name] = _chosen(done, part, before)
    return found


def _scalars_at(optimizer: Optimizer, steps: int, step: Tensor, lr: Rate) -> Entries:
    assert optimizer.scalars_at is not None
    return {**optimizer.scalars_at(_updates(step, steps), lr), **_own_scalars(step, steps)}


def _group(optimizer: Optimizer, steps: int, label: Hashable) -> tuple[Optimizer, Hashable, str]:
    assert optimizer.group is not None
    member, inner, name = optimizer.group(label)
    return accumulate(member, steps), inner, name
