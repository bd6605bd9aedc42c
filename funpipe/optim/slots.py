"""A state's slots in a fixed order: from nested dicts of leaves to one list, and back.

Slots come in tree order (`m` before `v`, `0.momentum` before `1.m`), and within each the leaves in the order given.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import StateError
from funpipe.optim.base import Entries, Optimizer, State

Path = tuple[str, ...]
"""Where a slot is in a state: `("m",)`, or `("1", "m")` in a chain."""


def slot_paths(optimizer: Optimizer) -> tuple[Path, ...]:
    """Where an optimizer without groups keeps its slots, in tree order.

    Args:
        optimizer: any; of one with groups pass the optimizer of a group.

    Example:
        >>> from funpipe.optim import adam, chain, clip_by_global_norm
        >>> slot_paths(chain(clip_by_global_norm(1.0), adam(0.1)))
        (('1', 'm'), ('1', 'v'))
    """
    return _paths(structure(optimizer))


def structure(optimizer: Optimizer) -> State:
    """The state of one leaf called "leaf", without values."""
    return optimizer.init({"leaf": torch.empty((), device="meta")})


def _paths(state: State) -> tuple[Path, ...]:
    if is_slot(state):
        return ((),)
    return tuple((key, *path) for key in sorted(state) for path in _paths(state[key]))


def is_slot(state: State) -> bool:
    """Whether a part of a state holds tensors, not further parts."""
    return bool(state) and all(isinstance(value, Tensor) for value in state.values())


def restricted(kind: State, state: State, names: Sequence[str]) -> State:
    """The part of a state that belongs to some leaves.

    Args:
        kind: the `structure` of the optimizer that updates them.
        state: of more leaves, and maybe of more slots.
        names: the leaves.

    Raises:
        StateError: the state has no such slot, or a slot no such leaf.
    """
    if is_slot(kind):
        return {name: _found(state, name) for name in names}
    return {key: restricted(part, _found(state, key), names) for key, part in kind.items()}


def available(state: State, names: Sequence[str]) -> State:
    """The part of a state that belongs to some leaves, those that a slot does not hold left out.

    Args:
        state: of more leaves.
        names: the leaves.
    """
    if is_slot(state):
        return {name: state[name] for name in names if name in state}
    return {key: available(part, names) for key, part in state.items()}


def _found(state: State, key: str) -> Any:
    if key not in state:
        raise StateError(
            f"the optimizer's state has no {key!r}, only {sorted(state)[:5]}; pass the state that this optimizer's "
            "init(params) or its last update returned"
        )
    return state[key]


def merged(states: Sequence[State]) -> State:
    """One state of the leaves of several."""
    together: State = {}
    for state in states:
        for key, part in state.items():
            together[key] = merged([together[key], part]) if key in together and isinstance(part, dict) else part
    return together


def flat_slots(paths: Sequence[Path], state: State, names: Sequence[str]) -> list[Tensor]:
    """The tensors of a state: slot by slot, in each leaf by leaf.

    Args:
        paths: of the slots.
        state: has these slots.
        names: the leaves, in order.

    Raises:
        StateError: the state has no such slot, or a slot no such leaf.
    """
    return [_found(_at(state, path), name) for path in paths for name in names]


def _at(state: State, path: Path) -> Entries:
    for key in path:
        state = _found(state, key)
    return state


def nested_slots(kind: State, tensors: Sequence[Tensor], names: Sequence[str]) -> State:
    """The state whose `flat_slots` these are.

    Args:
        kind: the optimizer's `structure`.
        tensors: slot by slot, in each leaf by leaf.
        names: the leaves, in order.
    """
    rows = (tensors[at : at + len(names)] for at in range(0, len(tensors), max(len(names), 1)))
    found = {path: dict(zip(names, row, strict=True)) for path, row in zip(_paths(kind), rows, strict=False)}
    return _filled(kind, found, ())


def _filled(kind: State, slots: dict[Path, Entries], path: Path) -> State:
    if is_slot(kind):
        return slots.get(path, {})
    return {key: _filled(part, slots, (*path, key)) for key, part in kind.items()}
