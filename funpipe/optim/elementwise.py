"""Runs an elementwise rule over every entry: the loop that all optimizers here share.

Rules are written in additions, multiplications, divisions and square roots, so that an element's bits do not depend on
where in a buffer it lies: whether `add(alpha=...)`, `lerp` or `addcdiv` round once or twice is up to each kernel, and
may differ between its vector loop and the remainder.

Entries of 16 bits are computed in float32 and rounded once, as `torch.optim` does with `fused=True`.
"""

from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

from funpipe._errors import StateError
from funpipe.optim.base import Entries, State
from funpipe.optim.context import Context

Rule = Callable[..., tuple[Tensor, ...]]
"""`rule(p, g, *slots, c) -> (p, *slots)`, where `c` are the context's scalars in the dtype of the computation."""


def computing_dtype(entry: Tensor) -> torch.dtype:
    """The dtype in which an entry is updated: its own, or float32 for those of 16 bits."""
    return torch.float32 if entry.dtype.itemsize < 4 else entry.dtype


def coefficients(scalars: Mapping[str, Tensor], entry: Tensor) -> Entries:
    """The 0-dim float64 scalars, rounded once to what an entry is computed in, as Python floats are in `torch.optim`.

    The explicit rounding also keeps a 0-dim entry from being promoted to float64.
    """
    return {name: value.to(entry.device, computing_dtype(entry)) for name, value in scalars.items()}


def update_entries(
    rule_for: Callable[[Hashable], Rule],
    slots: tuple[str, ...],
    grads: Entries,
    state: State,
    params: Entries,
    ctx: Context,
) -> tuple[Entries, State]:
    """Applies, to each entry, the rule of its label.

    Args:
        rule_for: from an entry's label to its rule.
        slots: the names of the slots, in the order in which the rule takes them.
        grads: gradients, with the parameters' keys and shapes.
        state: `{slot: {entry: tensor}}`.
        params: leaves or buckets.
        ctx: gives labels and scalars.

    Returns:
        New parameters and state, in the dtypes of the old ones.

    Raises:
        StateError: the state has other slots.
    """
    _check_slots(slots, state)
    new_params: Entries = {}
    new_state: State = {slot: {} for slot in slots}
    for name, entry in params.items():
        old = (entry, *(state[slot][name] for slot in slots))
        param, *values = _update_entry(rule_for(ctx.label(name)), grads[name], old, ctx.scalars)
        new_params[name] = param
        for slot, value in zip(slots, values, strict=True):
            new_state[slot][name] = value
    return new_params, new_state


def _update_entry(
    rule: Rule, grad: Tensor, old: tuple[Tensor, ...], scalars: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """One entry: to the dtype of the computation, the rule, and back to the dtypes of what is kept."""
    dtype = computing_dtype(old[0])
    param, *values = (x.to(dtype) for x in old)
    new = rule(param, grad.to(dtype), *values, coefficients(scalars, old[0]))
    return tuple(x.to(kept.dtype) for x, kept in zip(new, old, strict=True))


def _check_slots(slots: tuple[str, ...], state: State) -> None:
    if set(slots) != set(state):
        raise StateError(
            f"the optimizer's state has the slots {sorted(state)}, and this optimizer keeps {sorted(slots)}; "
            "pass the state that this optimizer's init(params) or its last update returned"
        )
