"""Writing an update into a step that is being traced: one operator for each group of leaves."""

from collections.abc import Hashable

import torch
from torch import Tensor

from funpipe.functional.objects import note
from funpipe.optim.base import Entries, Optimizer, Rate, State
from funpipe.optim.members import member
from funpipe.optim.norm import norm_of
from funpipe.optim.rates import rate_of, scalars_of
from funpipe.optim.slots import flat_slots, merged, nested_slots, slot_paths, structure
from funpipe.optim.update_op import UPDATE

Key = tuple[Hashable, torch.dtype, torch.device]
"""Leaves of one label, dtype and device are one operator."""


def emitted(
    optimizer: Optimizer,
    params: Entries,
    grads: Entries,
    state: State,
    step: Tensor,
    lr: Rate | None,
    norm: Tensor | None,
) -> tuple[Entries, State]:
    """An update of named leaves by the operator `update`, leaves in the order of their names.

    The global norm, if it is needed, is computed once, outside the operators.

    Args:
        optimizer: any, with groups or without.
        params: leaves by name.
        grads: their gradients.
        state: the optimizer's.
        step: 0-dim integer, updates done so far.
        lr: in place of the optimizer's own, None keeps that.
        norm: of all gradients; None: that of `grads`.
    """
    if lr is not None:
        scalars_of(optimizer, step, lr)  # refuses what the operators would refuse when they run
    if norm is None and optimizer.needs_norm:
        norm = norm_of(grads)
    new_params: Entries = {}
    states = []
    for (label, _, _), names in _grouped(optimizer, params).items():
        updated, new = _node(optimizer, label, names, params, grads, state, step, lr, norm)
        new_params |= updated
        states.append(new)
    return {name: new_params[name] for name in params}, merged(states) if states else state


def _grouped(optimizer: Optimizer, params: Entries) -> dict[Key, list[str]]:
    found: dict[Key, list[str]] = {}
    for name in sorted(params):
        leaf = params[name]
        label = optimizer.label(name, leaf) if optimizer.label else None
        found.setdefault((label, leaf.dtype, leaf.device), []).append(name)
    return found


def _node(
    optimizer: Optimizer,
    label: Hashable,
    names: list[str],
    params: Entries,
    grads: Entries,
    state: State,
    step: Tensor,
    lr: Rate | None,
    norm: Tensor | None,
) -> tuple[Entries, State]:
    """One operator, and what it gives by name."""
    own, inner, group = member(optimizer, label)
    rate = rate_of(lr, group)
    new = UPDATE(
        [params[name] for name in names],
        [grads[name] for name in names],
        flat_slots(slot_paths(own), state, names),
        step,
        norm if own.needs_norm else None,
        rate,
        note(str(own), own),
        noted_label(inner),
    )
    return dict(zip(names, new, strict=False)), nested_slots(structure(own), new[len(names) :], names)


def noted_label(label: Hashable) -> str:
    """The text that names a label in the graph that is being traced."""
    return note(repr(label), label)
