"""Each class of `torch.optim` with the optimizer that computes the same, and what torch calls its slots."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import funpipe as fp

SPEED = ("foreach", "fused", "capturable", "differentiable")
"""Settings of torch that choose a kernel, not an update."""


@dataclass(frozen=True)
class Entry:
    """A class of `torch.optim`.

    Args:
        make: the optimizer.
        slots: by the name of the optimizer's slot, the key of torch's state.
        names: by the name of the optimizer's setting, that of torch where it differs.
        counts: whether torch keeps the number of steps.
        refused: settings that must be off, and what to use instead.
    """

    make: Callable[..., fp.optim.Optimizer]
    slots: Mapping[str, str]
    names: Mapping[str, str] = field(default_factory=dict)
    counts: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)


MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}
AMSGRAD = {"amsgrad": "leave it out, or use torch.optim.RAdam or a smaller betas[1]"}
MUON = {"coefficients": "ns_coefficients", "steps": "ns_steps", "adjust": "adjust_lr_fn"}

ENTRIES: dict[type, Entry] = {
    torch.optim.SGD: Entry(fp.optim.sgd, {"momentum": "momentum_buffer"}, counts=False),
    torch.optim.Adam: Entry(fp.optim.adam, MOMENTS, refused=AMSGRAD),
    torch.optim.AdamW: Entry(fp.optim.adamw, MOMENTS, refused=AMSGRAD),
    torch.optim.Adamax: Entry(fp.optim.adamax, {"m": "exp_avg", "u": "exp_inf"}),
    torch.optim.NAdam: Entry(fp.optim.nadam, MOMENTS),
    torch.optim.RAdam: Entry(fp.optim.radam, MOMENTS),
    torch.optim.Adagrad: Entry(fp.optim.adagrad, {"sum": "sum"}),
    torch.optim.Adadelta: Entry(fp.optim.adadelta, {"u": "acc_delta", "v": "square_avg"}),
    torch.optim.RMSprop: Entry(
        fp.optim.rmsprop, {"v": "square_avg", "mean": "grad_avg", "momentum": "momentum_buffer"}
    ),
    torch.optim.ASGD: Entry(fp.optim.asgd, {"average": "ax"}),
    torch.optim.Rprop: Entry(fp.optim.rprop, {"previous": "prev", "size": "step_size"}),
    torch.optim.Adafactor: Entry(
        fp.optim.adafactor, {"row_var": "row_var", "col_var": "col_var", "variance": "variance"}
    ),
    torch.optim.Muon: Entry(fp.optim.muon, {"momentum": "momentum_buffer"}, MUON, counts=False),
}
"""All that are translated. LBFGS cannot be, which calls the loss, nor SparseAdam, which wants sparse gradients."""


def settings_of(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """The optimizer's settings from torch's, those of speed left out.

    Args:
        entry: of the class.
        given: torch's defaults, or a parameter group's.
    """
    named = {name: theirs for name, theirs in entry.names.items() if theirs in given}
    back = {theirs: name for name, theirs in named.items()}
    off = {*SPEED, *entry.refused, "params", "maximize", "initial_lr", "decoupled_weight_decay"}
    found = {back.get(name, name): value for name, value in given.items() if name not in off}
    if found.get("adjust", 0) is None:
        found["adjust"] = "original"
    if entry.make in (fp.optim.nadam, fp.optim.radam):
        found["decoupled_weight_decay"] = given["decoupled_weight_decay"]
    return found
