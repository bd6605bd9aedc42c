"""The scale of the loss in a rank's state: the same on every rank, because all agree whether a step is skipped."""

from collections.abc import Mapping

import torch
from torch import Tensor

from funpipe._errors import StateError
from funpipe._typing import TensorType
from funpipe.functional.precision import Precision
from funpipe.functional.tree import check_same
from funpipe.programs.program import Program

_PREFIX = "scale."


def initial_scale(program: Program, precision: Precision | None, device: torch.device) -> dict[str, Tensor]:
    """The scale before the first step, and its count of good steps; nothing where a program reads none.

    Args:
        program: a rank's.
        precision: the policy of the step.
        device: where the state lives.
    """
    scale = precision.scale if precision else None
    if scale is None:
        return {}
    first = {
        "scale.value": torch.tensor(scale.init, dtype=torch.float32, device=device),
        "scale.good": torch.zeros((), dtype=torch.int64, device=device),
    }
    return {name: value for name, value in first.items() if name in program.inputs}


def scale_of(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scale in a state, by name without its prefix; empty where there is none."""
    return {name.removeprefix(_PREFIX): value for name, value in values.items() if name.startswith(_PREFIX)}


def saved_scale(template: Mapping[str, Tensor], saved: Mapping[str, object], device: torch.device) -> dict[str, Tensor]:
    """The scale of a saved state, for a state that has one.

    Args:
        template: the values of the state.
        saved: what `state_dict` returned.
        device: where the state lives.

    Returns:
        New tensors, by the names that programs use.

    Raises:
        StateError: nothing of that kind was saved.
        TreeError: a value is missing, or has another shape or dtype.
    """
    wanted = scale_of(template)
    if not wanted:
        return {}
    found = saved.get("scale")
    if not isinstance(found, Mapping):
        raise StateError(
            "the saved state has no loss scale, and this step has: pass what step.state_dict of a step with a loss "
            'scale returned, or add the scale of a new one, saved["scale"] = step.state_dict(step.init(...))["scale"].'
        )
    check_same({n: TensorType.of(t) for n, t in wanted.items()}, dict(found), what="the saved scale")
    return {f"{_PREFIX}{n}": found[n].detach().to(device, copy=True) for n in wanted}
