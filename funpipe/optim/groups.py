"""Parameter groups: another optimizer, or the same one with other settings, for each labelled part of the leaves."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim.base import Entries, Label, Optimizer, Rate, State, widest
from funpipe.optim.context import Context
from funpipe.optim.rates import check_rates, rate_of, scalars_of
from funpipe.optim.settings import Settings
from funpipe.optim.slots import available, merged, restricted, structure


def groups(optimizers: Mapping[str, Optimizer], label: Callable[[str, Tensor], str]) -> Optimizer:
    """Updates each leaf by the optimizer of its group.

    Leaves of different groups never share a bucket. A slot holds the leaves of those groups alone that keep it. The
    global norm, where a group clips by it, is that of all gradients.

    Args:
        optimizers: the optimizer of each group by the group's name.
        label: `label(name, leaf)`, the name of a leaf's group; it reads the leaf's name, shape and dtype, never values.

    Returns:
        An `Optimizer` whose state has the slots of all groups: `{"m": {...}, "v": {...}}`.

    Raises:
        FunpipeError: there are no groups, or `label` names one that is not there.
        FunpipeTypeError: a group's value is not an optimizer.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, groups, sgd
        >>> parts = {"slow": sgd(0.1), "fast": sgd(1.0)}
        >>> optimizer = groups(parts, lambda name, leaf: "fast" if name == "b" else "slow")
        >>> leaves = {"b": torch.ones(1), "w": torch.ones(1)}
        >>> apply(optimizer, leaves, leaves, {}, torch.tensor(0))[0]
        {'b': tensor([0.]), 'w': tensor([0.9000])}
    """
    _check(optimizers)
    known = dict(optimizers)
    kinds = {name: None if optimizer.group else structure(optimizer) for name, optimizer in known.items()}
    settings = tuple((name, optimizer.settings) for name, optimizer in known.items())
    return Optimizer(
        init=partial(_init, known, label),
        update=partial(_update, known, kinds),
        label=_label(known, label),
        needs_norm=any(optimizer.needs_norm for optimizer in known.values()),
        scalars=partial(_scalars, known),
        name=f"groups({', '.join(f'{name}={optimizer}' for name, optimizer in known.items())})",
        scalars_at=partial(_scalars_at, known),
        group=partial(_group, known),
        settings=Settings.of("groups", label=label, parts=settings) if all(s for _, s in settings) else None,
        scope=widest(optimizer.scope for optimizer in known.values()),
        before_norm=partial(_before_norm, known, kinds) if any(o.before_norm for o in known.values()) else None,
        needs_key=any(optimizer.needs_key for optimizer in known.values()),
        needs_names=any(optimizer.needs_names for optimizer in known.values()),
        patterns=tuple(p for optimizer in known.values() for p in optimizer.patterns),
    )


def _init(known: dict[str, Optimizer], label: Callable[[str, Tensor], str], params: Entries) -> State:
    members: dict[str, Entries] = {}
    for name, leaf in params.items():
        members.setdefault(_group_of(known, label, name, leaf), {})[name] = leaf
    return merged([known[group].init(leaves) for group, leaves in members.items()])


def _update(
    known: dict[str, Optimizer],
    kinds: dict[str, State | None],
    grads: Entries,
    state: State,
    params: Entries,
    ctx: Context,
) -> tuple[Entries, State]:
    new_params: Entries = {}
    states = []
    for optimizer, given, own, leaves, part in _members(known, kinds, grads, state, params, ctx):
        updated, new = optimizer.update(given, own, leaves, part)
        new_params |= updated
        states.append(new)
    return {name: new_params[name] for name in params}, merged(states)


def _before_norm(
    known: dict[str, Optimizer],
    kinds: dict[str, State | None],
    grads: Entries,
    state: State,
    params: Entries,
    ctx: Context,
) -> Entries:
    found = dict(grads)
    for optimizer, given, own, leaves, part in _members(known, kinds, grads, state, params, ctx):
        found |= optimizer.before_norm(given, own, leaves, part) if optimizer.before_norm else given
    return found


def _members(
    known: dict[str, Optimizer],
    kinds: dict[str, State | None],
    grads: Entries,
    state: State,
    params: Entries,
    ctx: Context,
) -> Iterator[tuple[Optimizer, Entries, State, Entries, Context]]:
    """Each group that has leaves here: its optimizer, their gradients, its state, they themselves, its context."""
    labels = {name: ctx.label(name) for name in params}
    for index, (group, optimizer) in enumerate(known.items()):
        names = [name for name, found in labels.items() if _part(found)[0] == group]
        if names:
            kind = kinds[group]  # of one with groups it depends on the leaf
            own = available(state, names) if kind is None else restricted(kind, state, names)
            given, leaves = ({name: entries[name] for name in names} for entries in (grads, params))
            yield optimizer, given, own, leaves, _own(ctx, index)


def _own(ctx: Context, index: int) -> Context:
    """The context of the `index`-th group: its scalars without their prefix, its own labels."""
    return replace(ctx.part(index), label=lambda entry: _part(ctx.label(entry))[1])


def _part(label: Hashable) -> tuple[str, Hashable]:
    """A group's name, and the label that its optimizer gives."""
    assert isinstance(label, tuple)
    return label


def _label(known: dict[str, Optimizer], label: Callable[[str, Tensor], str]) -> Label:
    def of(name: str, leaf: Tensor) -> Hashable:
        group = _group_of(known, label, name, leaf)
        inner = known[group].label
        return group, inner(name, leaf) if inner else None

    return of


def _group_of(known: dict[str, Optimizer], label: Callable[[str, Tensor], str], name: str, leaf: Tensor) -> str:
    group = label(name, leaf)
    if group not in known:
        raise FunpipeError(
            f"groups: the label of leaf {name!r} is {group!r}, and the groups are {sorted(known)}; "
            "return one of these names, or add a group of that name"
        )
    return group


def _group(known: dict[str, Optimizer], label: Hashable) -> tuple[Optimizer, Hashable, str]:
    name, inner = _part(label)
    deeper = known[name].group
    return (*deeper(inner)[:2], name) if deeper else (known[name], inner, name)


def _scalars(known: dict[str, Optimizer], step: Tensor) -> Entries:
    parts = enumerate(known.values())
    return {f"{i}.{name}": x for i, optimizer in parts for name, x in optimizer.scalars(step).items()}


def _scalars_at(known: dict[str, Optimizer], step: Tensor, lr: Rate) -> Entries:
    check_rates(known, lr)
    found: Entries = {}
    for i, (group, optimizer) in enumerate(known.items()):
        own = scalars_of(optimizer, step, rate_of(lr, group))
        found |= {f"{i}.{name}": x for name, x in own.items()}
    return found


def _check(optimizers: Mapping[str, Optimizer]) -> None:
    if not optimizers:
        raise FunpipeError('groups({}) has no groups; name them, such as groups({"all": adamw(3e-4)}, label)')
    for name, optimizer in optimizers.items():
        if not isinstance(optimizer, Optimizer):
            raise FunpipeTypeError(
                f"group {name!r} is {optimizer!r}, a {type(optimizer).__name__}; pass an optimizer, such as adamw(3e-4)"
            )
