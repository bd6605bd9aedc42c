"""An optimizer of torch as one of funpipe: the same numbers, as a pure function."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

import funpipe as fp
from funpipe.interop.torch_optim.errors import TorchOptimError
from funpipe.interop.torch_optim.table import ENTRIES, Entry, settings_of


def from_torch(
    optimizer: type[torch.optim.Optimizer] | torch.optim.Optimizer, module: nn.Module | None = None, **settings: Any
) -> fp.optim.Optimizer:
    """The optimizer that computes what a class of `torch.optim` does, or one of its instances.

    Args:
        optimizer: a class, such as `torch.optim.AdamW`; or an instance, whose parameter groups become groups.
        module: of an instance, the module whose parameters it updates: they are told by their names there. Parameters
            that it does not have stay as they are.
        **settings: of a class, as it takes them. `lr` may be a function of the step too, as for `fp.optim`; settings of
            speed (`foreach`, `fused`, `capturable`) do nothing.

    Returns:
        An optimizer of `fp.optim`.

    Raises:
        TorchOptimError: the class, or a setting, cannot be translated.
        TypeError, ValueError: torch refuses a setting.

    Example:
        >>> import torch
        >>> print(from_torch(torch.optim.AdamW, lr=0.1))
        adamw(lr=0.1, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)
        >>> module = torch.nn.Linear(2, 2)
        >>> groups = [{"params": [module.bias], "lr": 0.5}, {"params": [module.weight]}]
        >>> print(from_torch(torch.optim.SGD(groups, lr=0.1), module))
        groups(group0=sgd(lr=0.5), group1=sgd(lr=0.1))
    """
    if isinstance(optimizer, torch.optim.Optimizer):
        return _instance(optimizer, module, settings)
    entry, lr = entry_of(optimizer), settings.get("lr")
    plain = {name: value for name, value in settings.items() if name != "lr" or not callable(value)}
    made: Any = optimizer
    found = _translated(optimizer, entry, made([torch.zeros(1, 1)], **plain).defaults)
    return _made(optimizer, entry, found | ({"lr": lr} if callable(lr) else {}))


def entry_of(kind: type) -> Entry:
    """The entry of a class.

    Raises:
        TorchOptimError: it is not translated.
    """
    if kind in ENTRIES:
        return ENTRIES[kind]
    names = [known.__name__ for known in ENTRIES]
    name = getattr(kind, "__name__", repr(kind))
    near = get_close_matches(name, names, 1, 0.3) or ["AdamW"]
    raise TorchOptimError(
        f"{name} cannot become a function of gradients and state: its step runs Python that a compiled step does not. "
        f"The nearest that can is torch.optim.{near[0]}; write another one as fp.optim.Optimizer(init, update)."
    )


def _translated(kind: type, entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    remedies = {"maximize": "return the negative of the loss"} | dict(entry.refused)
    for name, remedy in remedies.items():
        if given.get(name):
            raise TorchOptimError(f"{kind.__name__}({name}=True) has no counterpart in fp.optim: {remedy}.")
    found = settings_of(entry, given) | {"decoupled": bool(given.get("decoupled_weight_decay"))}
    return {name: _number(value) for name, value in found.items()}


def _made(kind: type, entry: Entry, found: dict[str, Any]) -> fp.optim.Optimizer:
    """Adam with decoupled weight decay is AdamW."""
    decoupled = found.pop("decoupled")
    return fp.optim.adamw(**found) if kind is torch.optim.Adam and decoupled else entry.make(**found)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _instance(
    optimizer: torch.optim.Optimizer, module: nn.Module | None, settings: Mapping[str, Any]
) -> fp.optim.Optimizer:
    if module is None or settings:
        raise TorchOptimError(
            f"an instance of {type(optimizer).__name__} has its settings, and its parameters no names: pass the module "
            "and nothing else, from_torch(optimizer, module)."
        )
    entry, names = entry_of(type(optimizer)), {id(p): name for name, p in module.named_parameters()}
    labels: dict[str, str] = {}
    parts: dict[str, fp.optim.Optimizer] = {}
    for i, group in enumerate(optimizer.param_groups):
        parts[f"group{i}"] = _made(type(optimizer), entry, _of_group(optimizer, entry, group))
        labels |= {name_of(names, p): f"group{i}" for p in group["params"]}
    if len(parts) == 1 and len(labels) == len(names):
        return parts["group0"]
    if len(labels) < len(names):
        parts["freeze"] = fp.optim.freeze()
    return fp.optim.groups(parts, lambda name, leaf: labels.get(name, "freeze"))


def _of_group(optimizer: torch.optim.Optimizer, entry: Entry, group: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in group.items() if name in optimizer.defaults}
    return _translated(type(optimizer), entry, own)


def name_of(names: Mapping[int, str], param: Tensor) -> str:
    """The name of a parameter in the module.

    Raises:
        TorchOptimError: it is not the module's.
    """
    if id(param) not in names:
        raise TorchOptimError(
            f"the optimizer updates a parameter of shape {tuple(param.shape)} that is not the module's: pass the "
            "module whose parameters() it was made with."
        )
    return names[id(param)]
