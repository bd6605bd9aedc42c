"""Which fused operator of torch computes an update of `fp.optim`, and with which numbers."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from funpipe.optim import Settings
from funpipe.optim.adamw import UNDECAYED

aten = torch.ops.aten

Learning = float | Callable[[Tensor], Tensor]
"""A learning rate as optimizers take it: a number, or a function of the step."""


@dataclass(frozen=True)
class Kernel:
    """A fused operator.

    Args:
        packet: the operator; its overload depends on whether the learning rate is a tensor.
        lr: the learning rate.
        numbers: its other settings.
        slots: the arguments that take the slots, in the order of the slots.
        empty: list arguments that stay empty.
        counts: whether it takes a step for each leaf.
        transforms: the settings of the transforms of gradients before it.
    """

    packet: Any
    lr: Learning
    numbers: Mapping[str, Any]
    slots: tuple[str, ...]
    empty: tuple[str, ...] = ()
    counts: bool = False
    transforms: tuple[Settings, ...] = field(default=())


def kernel_of(settings: Settings | None, label: Hashable) -> Kernel | str:
    """The fused operator of an optimizer, or why there is none.

    Args:
        settings: what the optimizer was made from.
        label: that it gives to the leaves.
    """
    if settings is None:
        return "its settings are not known"
    if settings.kind == "chain":
        return _of_chain(settings, label)
    make = {"adam": _adam, "adamw": _adamw, "sgd": _sgd}.get(settings.kind)
    return make(settings, label) if make else f"torch has no fused operator for {settings.kind}"


def _of_chain(settings: Settings, label: Hashable) -> Kernel | str:
    *transforms, last = settings["parts"]
    found = kernel_of(last, label[-1] if isinstance(label, tuple) else None)
    other = [t.kind for t in transforms if t.kind != "clip_by_global_norm"]
    if isinstance(found, str) or not other:
        return found if isinstance(found, str) else _behind(tuple(transforms), found)
    return f"the transform {other[0]} in front of it is not known"


def _behind(transforms: tuple[Settings, ...], kernel: Kernel) -> Kernel:
    return Kernel(kernel.packet, kernel.lr, kernel.numbers, kernel.slots, kernel.empty, kernel.counts, transforms)


def _adam(settings: Settings, label: Hashable) -> Kernel:
    return _of_adam(aten._fused_adam, settings, settings["weight_decay"])


def _adamw(settings: Settings, label: Hashable) -> Kernel:
    return _of_adam(aten._fused_adamw, settings, 0.0 if label == UNDECAYED else settings["weight_decay"])


def _of_adam(packet: Any, settings: Settings, decay: float) -> Kernel:
    beta1, beta2 = settings["betas"]
    numbers = {"beta1": beta1, "beta2": beta2, "weight_decay": float(decay), "eps": settings["eps"]}
    return Kernel(
        packet,
        settings["lr"],
        numbers | {"amsgrad": False, "maximize": False},
        slots=("exp_avgs", "exp_avg_sqs"),
        empty=("max_exp_avg_sqs",),
        counts=True,
    )


def _sgd(settings: Settings, label: Hashable) -> Kernel | str:
    if settings["dampening"]:
        return "dampening makes its first step another operator than the rest; leave dampening at 0"
    momentum = float(settings["momentum"])
    numbers = {"weight_decay": float(settings["weight_decay"]), "momentum": momentum, "dampening": 0.0}
    return Kernel(
        aten._fused_sgd,
        settings["lr"],
        # The momentum starts from zeros, where the first step is as any other.
        numbers | {"nesterov": settings["nesterov"], "maximize": False, "is_first_step": False},
        slots=("momentum_buffer_list",) if momentum else (),
        empty=() if momentum else ("momentum_buffer_list",),
    )
