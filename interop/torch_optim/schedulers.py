"""A learning-rate scheduler of torch as a function of the step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import funpipe as fp
from funpipe.interop.torch_optim.errors import TorchOptimError


def from_scheduler(make: Callable[[torch.optim.Optimizer], Any], lr: float, steps: int) -> fp.optim.LearningRate:
    """The learning rates that a scheduler gives, for `lr=` of any optimizer.

    The scheduler is run ahead, once, and its rates are kept as a table; after its end the last one stays.

    Args:
        make: makes the scheduler of an optimizer, such as `lambda o: torch.optim.lr_scheduler.StepLR(o, 30)`; it is
            stepped behind each step of the optimizer.
        lr: the first rate, which the scheduler changes.
        steps: how many to tabulate.

    Returns:
        A function from the step to a 0-dim float64 tensor.

    Raises:
        TorchOptimError: the scheduler needs a metric, as `ReduceLROnPlateau` does, or changes more than the rate, or
            `steps` is below 1.

    Example:
        >>> import torch
        >>> rate = from_scheduler(lambda o: torch.optim.lr_scheduler.StepLR(o, 2, gamma=0.5), 1.0, steps=5)
        >>> [rate(torch.tensor(step)).item() for step in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    if steps < 1:
        raise TorchOptimError(f"from_scheduler: steps is {steps}; pass the number of steps of the training.")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    before = _others(optimizer)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        _check_rate_alone(scheduler, before, _others(optimizer))
        optimizer.step()
        _advance(scheduler)

    def at(step: Tensor) -> Tensor:
        table = torch.tensor(rates, dtype=torch.float64, device=step.device)
        return table.index_select(0, step.clamp(max=steps - 1).reshape(1)).reshape(())

    return fp.optim.LearningRate(f"{type(scheduler).__name__}({lr}, steps={steps})", at)


def _others(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The settings other than the rate."""
    return {name: optimizer.param_groups[0][name] for name in optimizer.defaults if name != "lr"}


def _check_rate_alone(scheduler: Any, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [name for name, value in before.items() if now[name] != value]
    if changed:
        raise TorchOptimError(
            f"from_scheduler: {type(scheduler).__name__} changes {changed[0]!r} too, which is fixed here; leave that "
            "out, as cycle_momentum=False does."
        )


def _advance(scheduler: Any) -> None:
    try:
        scheduler.step()
    except TypeError as error:
        raise TorchOptimError(
            f"from_scheduler: {type(scheduler).__name__}.step() fails without arguments ({error}): its rates depend "
            "on more than the step. Keep the rate in the state of a pure step instead, "
            "fp.optim.apply(..., lr=state['lr'])."
        ) from error
