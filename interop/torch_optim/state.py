"""The state of a train step as that of a module and its optimizer of torch, and back, to the bit."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import funpipe as fp
from funpipe.interop.torch_optim.counted import counted
from funpipe.interop.torch_optim.errors import TorchOptimError
from funpipe.interop.torch_optim.translate import entry_of, name_of

Slots = dict[str, dict[str, Tensor]]
"""The optimizer's slots: by path, by leaf."""


def to_torch(step: fp.TrainStep, state: fp.State, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copies a state into a module and its optimizer, which then go on as if they had made the steps.

    Every rank calls it alike, and each gets the whole.

    Args:
        step: the train step, whose parameters have the module's names.
        state: not consumed.
        module: overwritten, parameters and buffers.
        optimizer: of torch, made with the module's parameters; its state is overwritten, its settings stay.

    Raises:
        TorchOptimError: the class is not known, parameters have other names, or the step accumulates gradients.

    Example:
        >>> import torch, funpipe as fp
        >>> from funpipe.interop.torch_optim import from_torch
        >>> module = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.Adam(module.parameters())
        >>> apply, params, _ = fp.functionalize(module)
        >>> loss = lambda p, x: apply(p, {}, x)[0].square().mean()
        >>> step = fp.train_step(loss, from_torch(optimizer, module), backend="interpret")
        >>> state, _ = step(step.init(params, torch.ones(4, 2)), torch.ones(4, 2))
        >>> to_torch(step, state, module, optimizer)
        >>> optimizer.state[module.bias]["step"]
        tensor(1.)
    """
    entry, found = entry_of(type(optimizer)), step.slots(state)
    _require_an_update_each_step(found)
    params, buffers = step.gather(state)
    _copy(module, {**params, **buffers})
    names = {id(p): name for name, p in module.named_parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            own = _of_leaf(found, entry.slots, name_of(names, p))
            count = counted(type(optimizer), group, state.step) if entry.counts else {}
            optimizer.state[p] = {**count, **own} if state.step else {}


def from_torch_state(
    step: fp.TrainStep,
    state: fp.State,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int | None = None,
) -> fp.State:
    """A state with the values of a module and its optimizer, which may have made steps.

    Args:
        step: the train step, whose optimizer is `from_torch` of this one, maybe in a chain.
        state: one of this step's, given up; what torch does not have (averages, keys, scales) is kept.
        module: parameters and buffers.
        optimizer: of torch, made with the module's parameters.
        steps: how many steps were made, for optimizers that do not count them (SGD, Muon), and of a train step that
            accumulates, where torch counts updates; None: as the others count, and for these those of `state`.

    Returns:
        The new state; its tensors are copies.

    Raises:
        TorchOptimError: the class is not known, parameters have other names or have made different numbers of steps,
            or the step accumulates gradients, and `steps` is None.

    Example:
        >>> import torch, funpipe as fp
        >>> from funpipe.interop.torch_optim import from_torch
        >>> module = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.Adam(module.parameters())
        >>> module(torch.ones(4, 2)).square().mean().backward()
        >>> optimizer.step()
        >>> apply, params, _ = fp.functionalize(module)
        >>> loss = lambda p, x: apply(p, {}, x)[0].square().mean()
        >>> step = fp.train_step(loss, from_torch(optimizer, module), backend="interpret")
        >>> from_torch_state(step, step.init(params, torch.ones(4, 2)), module, optimizer).step
        1
    """
    entry = entry_of(type(optimizer))
    names = {id(p): name for name, p in module.named_parameters()}
    theirs = {name_of(names, p): own for p, own in optimizer.state.items() if own}
    found = {int(own["step"]) for own in theirs.values() if "step" in own}
    if len(found) > 1:
        raise TorchOptimError(
            f"the parameters have made {sorted(found)} steps, and a train step has one count: make the missing steps "
            "in torch, or start from an optimizer without state."
        )
    saved = dict(step.state_dict(state))
    if steps is None:
        _require_an_update_each_step(saved["optimizer"])
    saved["params"] = {name: p.detach() for name, p in module.named_parameters()}
    saved["buffers"] = dict(module.named_buffers())
    saved["optimizer"] = {path: _merged(path, entry.slots, own, theirs) for path, own in saved["optimizer"].items()}
    saved["step"] = next(iter(found), state.step) if steps is None else steps
    return step.load(state, saved)


def _require_an_update_each_step(paths: Iterable[str]) -> None:
    if any(path.split(".")[-1] == "accumulated" for path in paths):
        raise TorchOptimError(
            "the train step accumulates gradients, so it counts steps where torch counts updates: use a step without "
            "fp.optim.accumulate, and more microbatches; or, to take torch's state over, pass steps=, the number of "
            "updates times those of accumulate."
        )


def _of_leaf(found: Slots, names: Mapping[str, str], leaf: str) -> dict[str, Tensor]:
    """Torch's state of a parameter, copies."""
    named = {path.split(".")[-1]: slots for path, slots in found.items()}
    return {key: named[slot][leaf].clone() for slot, key in names.items() if leaf in named.get(slot, {})}


def _merged(
    path: str, names: Mapping[str, str], own: Mapping[str, Tensor], theirs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Tensor]:
    """A slot with torch's values where it has some."""
    key = names.get(path.split(".")[-1], "")
    return {leaf: _value(theirs.get(leaf, {}), key, old) for leaf, old in own.items()}


def _value(state: Mapping[str, Any], key: str, old: Tensor) -> Tensor:
    found = state.get(key)
    return found.detach() if isinstance(found, Tensor) else old


def _copy(module: nn.Module, leaves: Mapping[str, Tensor]) -> None:
    wanted = dict([*module.named_parameters(), *module.named_buffers()])
    unknown = sorted(set(wanted).symmetric_difference(leaves))
    if unknown:
        raise TorchOptimError(
            f"the module and the state do not both have {unknown[0]!r}: train what fp.functionalize(module) returns, "
            "whose leaves have the module's names."
        )
    with torch.no_grad():
        for name, leaf in wanted.items():
            leaf.copy_(leaves[name])
