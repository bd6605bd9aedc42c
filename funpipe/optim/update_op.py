"""An update as one operator: what a traced step holds in place of the many that an optimizer is made of.

    update(params, grads, slots, step, norm, lr, optimizer, label) -> [*new params, *new slots]

`slots` are slot by slot, in each leaf by leaf, and so are the new ones. All leaves have one label. `optimizer` and
`label` are texts: the graph carries what they name (`graph.objects`), and whoever runs it opens
`knowing(graph.objects)`. `update_` overwrites parameters and slots instead.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.fx.node import has_side_effect

from funpipe.functional.objects import known
from funpipe.optim.base import Optimizer
from funpipe.optim.context import Context
from funpipe.optim.rates import scalars_of
from funpipe.optim.slots import flat_slots, nested_slots, slot_paths, structure

NAMESPACE = "funpipe_optim"
"""Below `torch.ops`; importing this module registers the operators there."""

_ARGUMENTS = "Tensor[] grads, {slots} slots, Tensor step, Tensor? norm, Tensor? lr, str optimizer, str label"

_LIBRARY = torch.library.Library(NAMESPACE, "DEF")
_LIBRARY.define(f"update(Tensor[] params, {_ARGUMENTS.format(slots='Tensor[]')}) -> Tensor[]")
_LIBRARY.define(f"update_(Tensor(a!)[] params, {_ARGUMENTS.format(slots='Tensor(b!)[]')}) -> ()")

OPERATORS = getattr(torch.ops, NAMESPACE)
"""The operators."""

UPDATE = OPERATORS.update.default
"""The pure one."""

UPDATE_IN_PLACE = OPERATORS.update_.default
"""The one that overwrites."""


def update_lists(
    optimizer: Optimizer,
    label: Hashable,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    slots: Sequence[Tensor],
    step: Tensor,
    norm: Tensor | None,
    lr: Tensor | None,
    scalars: dict[str, Tensor] | None = None,
) -> list[Tensor]:
    """What `update` means.

    Args:
        optimizer: one without groups.
        label: the label that it gives to all leaves.
        params: the leaves.
        grads: a gradient for each.
        slots: the optimizer's, slot by slot.
        step: 0-dim integer, updates done so far.
        norm: 0-dim, the norm of all gradients; None if the optimizer does not read it.
        lr: 0-dim, in place of the optimizer's own; None keeps that.
        scalars: what the optimizer computes from step and lr, if it is already known.

    Returns:
        New parameters, then new slots in the order of the old ones; one that stays the same may be the old tensor.
    """
    names = [str(i) for i in range(len(params))]
    context = Context(
        step=step,
        label=lambda entry: label,
        global_norm=lambda: _given(norm, optimizer),
        scalars=scalars_of(optimizer, step, lr) if scalars is None else scalars,
    )
    state = nested_slots(structure(optimizer), slots, names)
    given, leaves = dict(zip(names, grads, strict=True)), dict(zip(names, params, strict=True))
    new_params, new_state = optimizer.update(given, state, leaves, context)
    return [*(new_params[name] for name in names), *flat_slots(slot_paths(optimizer), new_state, names)]


def _given(norm: Tensor | None, optimizer: Optimizer) -> Tensor:
    if norm is None:
        raise ValueError(f"{optimizer} reads the global norm, but says needs_norm=False; say needs_norm=True.")
    return norm


def _update(
    params: list[Tensor],
    grads: list[Tensor],
    slots: list[Tensor],
    step: Tensor,
    norm: Tensor | None,
    lr: Tensor | None,
    optimizer: str,
    label: str,
) -> list[Tensor]:
    new = update_lists(known(optimizer), known(label), params, grads, slots, step, norm, lr)
    memory = {x.untyped_storage().data_ptr() for x in (*params, *grads, *slots)}
    return [x.clone() if x.untyped_storage().data_ptr() in memory else x for x in new]


def _update_in_place(
    params: list[Tensor],
    grads: list[Tensor],
    slots: list[Tensor],
    step: Tensor,
    norm: Tensor | None,
    lr: Tensor | None,
    optimizer: str,
    label: str,
) -> None:
    """Leaf by leaf, so that one leaf's worth of memory is needed besides."""
    rule, group, count = known(optimizer), known(label), len(params)
    scalars = scalars_of(rule, step, lr)
    for i, param in enumerate(params):
        own = slots[i::count]
        new = update_lists(rule, group, [param], [grads[i]], own, step, norm, lr, scalars)
        for old, value in zip((param, *own), new, strict=True):
            old.copy_(value)


def _fake(params: list[Tensor], grads: list[Tensor], slots: list[Tensor], *rest: object) -> list[Tensor]:
    return [torch.empty_like(x) for x in (*params, *slots)]


def _nothing(*args: object) -> None:
    """The fake form of an operator that returns nothing."""


for _name, _real, _form in (("update", _update, _fake), ("update_", _update_in_place, _nothing)):
    _LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{_name}", _form, lib=_LIBRARY)
has_side_effect(UPDATE_IN_PLACE)
