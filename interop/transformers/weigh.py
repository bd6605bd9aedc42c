"""What layers weigh: their parameters, or the time of what runs from one to the next."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch import nn

import funpipe as fp
from funpipe.interop.transformers.loss_of import loss_of


def by_parameters(model: nn.Module, names: Sequence[str]) -> list[tuple[str, float]]:
    """The number of parameters of each layer, in the model's order.

    Args:
        model: the model.
        names: of its layers.

    Example:
        >>> by_parameters(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)), ["0", "1"])
        [('0', 6.0), ('1', 9.0)]
    """
    return [(name, float(sum(p.numel() for p in model.get_submodule(name).parameters()))) for name in names]


def by_time(model: nn.Module, names: Sequence[str], batch: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The time from the beginning of each layer to that of the next, in the order in which they run.

    What runs before the first layer is counted with it, what runs after the last with that.

    Args:
        model: the model.
        names: of its layers; those that do not run are left out.
        batch: its keyword arguments; only shapes and dtypes are read.
    """
    loss_fn, params, buffers = loss_of(model)
    traced = fp.trace(loss_fn, params, dict(batch), buffers=buffers)
    costs = fp.stages.Roofline()
    before = [0.0, *accumulate(costs.node(node) for node in traced.forward)]
    begins = sorted((first, name) for name in names if (first := _first(traced, name)) is not None)
    ends = [*(first for first, _ in begins[1:]), len(traced.forward)]
    starts = [0, *(first for first, _ in begins[1:])]
    return [(name, before[end] - before[start]) for (_, name), start, end in zip(begins, starts, ends, strict=True)]


def _first(traced: fp.Traced, name: str) -> int | None:
    """Where the first operator of a module is."""
    paths = ((i, node.meta["path"] or "") for i, node in enumerate(traced.forward))
    return next((i for i, path in paths if f"{path}.".startswith(f"{name}.")), None)
