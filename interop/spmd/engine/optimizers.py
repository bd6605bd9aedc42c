"""What is known of torch's optimizers: which of them can be traced, their first state, and what of them may change."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from funpipe.interop.spmd.errors import SpmdNotImplementedError, SpmdRuntimeError, SpmdTypeError, SpmdValueError

SUPPORTED = (Adam, AdamW, SGD)
"""Those whose first state is known here, so that a step can be traced before they have taken one."""

State = Mapping[str, Tensor]


def require_supported(optimizer: Optimizer, model: nn.Module) -> None:
    """Refuses what would be computed wrongly.

    Args:
        optimizer: of the step.
        model: of the step.

    Raises:
        SpmdNotImplementedError: another optimizer than Adam, AdamW and SGD, or one with `differentiable=True`.
        SpmdValueError: it has parameters that the model has not.
        SpmdTypeError: a hyperparameter other than the learning rate is a tensor.
    """
    if type(optimizer) not in SUPPORTED:
        names = ", ".join(kind.__name__ for kind in SUPPORTED)
        raise SpmdNotImplementedError(
            f"{type(optimizer).__name__} cannot be compiled; use one of {names} of torch.optim."
        )
    known = set(model.parameters())
    for index, group in enumerate(optimizer.param_groups):
        if group.get("differentiable"):
            raise SpmdNotImplementedError(f"group {index} has differentiable=True; make the optimizer without it.")
        strange = sum(p not in known for p in group["params"])
        if strange:
            raise SpmdValueError(
                f"group {index} of the optimizer has {strange} parameters that are none of the model's: make the "
                "optimizer of model.parameters(), after the model was last wrapped or moved."
            )
        for name in optimizer.defaults:
            if name != "lr" and isinstance(group[name], Tensor):
                raise SpmdTypeError(
                    f"{name} of group {index} is a tensor; only the learning rate may be: use a number."
                )


def first_state(optimizer: Optimizer, group: Mapping[str, Any], param: Tensor) -> dict[str, Tensor]:
    """The state that an optimizer would make for a parameter at its first step, before that step.

    Args:
        optimizer: Adam, AdamW or SGD.
        group: the parameter's.
        param: a real tensor, or a distributed one.

    Raises:
        SpmdRuntimeError: the first step of this optimizer is another computation than the later ones.
    """
    if isinstance(optimizer, SGD):
        return _first_momentum(group, param)
    on_device = group["capturable"] or group["fused"]
    slots = ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])]
    kind = torch.float64 if torch.get_default_dtype() == torch.float64 and not group["fused"] else torch.float32
    step = torch.zeros((), dtype=kind, device=param.device if on_device else "cpu")
    return {"step": step, **{slot: torch.zeros_like(param, requires_grad=False) for slot in slots}}


def _first_momentum(group: Mapping[str, Any], param: Tensor) -> dict[str, Tensor]:
    if group["momentum"] == 0:
        return {}
    if group["dampening"] != 0:
        raise SpmdRuntimeError(
            f"SGD with dampening={group['dampening']} does not dampen its first step, so that step is another graph: "
            "take one step before compiling, or use dampening=0."
        )
    return {"momentum_buffer": torch.zeros_like(param, requires_grad=False)}


def hyperparameters(optimizer: Optimizer | None) -> tuple[Any, ...]:
    """All that is part of the graph: everything but the learning rates."""
    if optimizer is None:
        return ()
    names = [name for name in optimizer.defaults if name != "lr"]
    return tuple((len(g["params"]), *[(name, repr(g[name])) for name in names]) for g in optimizer.param_groups)


def rates(optimizer: Optimizer | None) -> list[Tensor]:
    """The learning rates now, one for each group: numbers as float64 on the CPU, tensors as they are."""
    groups = optimizer.param_groups if optimizer is not None else []
    return [_rate(group["lr"]) for group in groups]


def _rate(rate: float | Tensor) -> Tensor:
    return rate.detach() if isinstance(rate, Tensor) else torch.tensor(rate, dtype=torch.float64)


def in_a_trace(group: Mapping[str, Any], rate: Tensor, real_rate: float | Tensor) -> dict[str, Any]:
    """What of a group is another while its optimizer is traced.

    Stand-ins are no plain tensors, so the optimizer would not choose by itself what it chooses for those. On a CPU,
    `capturable` asks for what only GPUs need: a count that is never read there.

    Args:
        group: the parameters and hyperparameters.
        rate: the stand-in of its learning rate.
        real_rate: the learning rate itself.
    """
    devices = {param.device.type for param in group["params"]}
    on_cpu = "cpu" in devices
    changed: dict[str, Any] = {}
    if on_cpu and group.get("capturable"):
        changed["capturable"] = False
    if group["foreach"] is None and group["fused"] is None and not on_cpu:
        changed["foreach"] = not isinstance(real_rate, Tensor) or bool(group.get("capturable"))
    as_tensor = group["fused"] or (isinstance(real_rate, Tensor) and not on_cpu)
    return {**changed, "lr": rate if as_tensor else rate.item()}
