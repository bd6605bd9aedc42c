"""An optimizer lent to a trace: it holds stand-ins while a step is traced, and afterwards what it held before."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from funpipe.interop.spmd.engine.optimizers import in_a_trace
from funpipe.interop.spmd.errors import SpmdValueError


@contextmanager
def lent(
    optimizer: Optimizer,
    stand_ins: Mapping[Tensor, Tensor],
    states: Mapping[Tensor, dict[str, Tensor]],
    rates: Sequence[Tensor],
) -> Iterator[None]:
    """While open, the optimizer has stand-ins for its parameters, states and learning rates.

    Args:
        optimizer: of the step.
        stand_ins: for each of its parameters.
        states: of each stand-in.
        rates: for each group.

    Raises:
        SpmdValueError: the step changed a hyperparameter, which later calls would not.
    """
    groups, state = [dict(group) for group in optimizer.param_groups], optimizer.state
    optimizer.state = defaultdict(dict, states)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group.update(in_a_trace(group, rate, group["lr"]), params=[stand_ins[p] for p in group["params"]])
    given = [dict(group) for group in optimizer.param_groups]
    try:
        yield
        _require_unchanged(optimizer, given)
    finally:
        optimizer.state = state
        del optimizer.param_groups[len(groups) :]
        for group, before in zip(optimizer.param_groups, groups, strict=True):
            group.clear()
            group.update(before)


def _require_unchanged(optimizer: Optimizer, given: Sequence[Mapping[str, Any]]) -> None:
    if len(optimizer.param_groups) != len(given):
        raise SpmdValueError("the step added a group to the optimizer: add it before the first call.")
    for index, (group, before) in enumerate(zip(optimizer.param_groups, given, strict=True)):
        changed = [name for name in before if name != "params" and group.get(name) is not before[name]]
        if changed:
            raise SpmdValueError(
                f"the step changed {', '.join(changed)} of group {index} of the optimizer, which later calls would not "
                "do again: change it between two calls; it is read at every call."
            )
