"""Transforms of the gradients, one after another, and an optimizer at the end: together again an optimizer.

Each part keeps its state under its index, and its scalars under its index and a dot; a leaf's label is the tuple of
the parts' labels.
"""

from collections.abc import Hashable
from functools import cache, partial

from torch import Tensor

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim.base import Entries, Label, Optimizer, Rate, State, Transform, widest
from funpipe.optim.context import Context
from funpipe.optim.settings import Settings

Part = Transform | Optimizer


def chain(*parts: Part) -> Optimizer:
    """Changes the gradients by each transform in turn, then updates by the optimizer at the end.

    Args:
        *parts: transforms, then one optimizer. One that needs the global norm comes first: the norm is that of the
            gradients before any change.

    Returns:
        An `Optimizer` whose state is `{"0": state of the first part, "1": ...}`.

    Raises:
        FunpipeError: the last part is not an optimizer, another one is, or the norm is needed after a transform.
        FunpipeTypeError: a part is neither.

    Example:
        >>> import torch
        >>> from funpipe.optim import adamw, chain, clip_by_global_norm
        >>> optimizer = chain(clip_by_global_norm(1.0), adamw(3e-4))
        >>> optimizer.init({"w": torch.ones(1)})
        {'0': {}, '1': {'m': {'w': tensor([0.])}, 'v': {'w': tensor([0.])}}}
    """
    transforms, optimizer = _split(parts)
    known = tuple(part.settings for part in parts)
    return Optimizer(
        init=lambda params: {str(index): part.init(params) for index, part in enumerate(parts)},
        update=partial(_update, transforms, optimizer),
        label=_label(parts) if any(part.label for part in parts) else None,
        needs_norm=any(part.needs_norm for part in parts),
        scalars=partial(_scalars, parts),
        name=f"chain({', '.join(map(str, parts))})",
        scalars_at=partial(_scalars_at, transforms, optimizer) if optimizer.scalars_at else None,
        group=cache(partial(_group, transforms, optimizer)) if optimizer.group else None,
        settings=Settings.of("chain", parts=known) if all(known) else None,
        scope=widest(part.scope for part in parts),
        before_norm=partial(_before_norm, optimizer) if optimizer.before_norm and not transforms else None,
        needs_key=any(part.needs_key for part in parts),
        needs_names=any(part.needs_names for part in parts),
        patterns=optimizer.patterns,
    )


def _update(
    transforms: tuple[Transform, ...],
    optimizer: Optimizer,
    grads: Entries,
    state: State,
    params: Entries,
    ctx: Context,
) -> tuple[Entries, State]:
    new_state: State = {}
    for index, transform in enumerate(transforms):
        grads, new_state[str(index)] = transform.apply(grads, state[str(index)], params, ctx.part(index))
    last = len(transforms)
    params, new_state[str(last)] = optimizer.update(grads, state[str(last)], params, ctx.part(last))
    return params, new_state


def _before_norm(optimizer: Optimizer, grads: Entries, state: State, params: Entries, ctx: Context) -> Entries:
    """Of a chain that is its optimizer alone: behind a transform none may read the norm."""
    assert optimizer.before_norm is not None
    return optimizer.before_norm(grads, state["0"], params, ctx.part(0))


def _label(parts: tuple[Part, ...]) -> Label:
    return lambda name, leaf: tuple(part.label(name, leaf) if part.label else None for part in parts)


def _scalars(parts: tuple[Part, ...], step: Tensor) -> Entries:
    return {f"{index}.{name}": x for index, part in enumerate(parts) for name, x in part.scalars(step).items()}


def _scalars_at(transforms: tuple[Transform, ...], optimizer: Optimizer, step: Tensor, lr: Rate) -> Entries:
    """The learning rate is the optimizer's."""
    assert optimizer.scalars_at is not None
    last = {f"{len(transforms)}.{name}": x for name, x in optimizer.scalars_at(step, lr).items()}
    return {**_scalars(transforms, step), **last}


def _group(transforms: tuple[Transform, ...], optimizer: Optimizer, label: Hashable) -> tuple[Optimizer, Hashable, str]:
    """The same transforms before the optimizer of a group."""
    assert optimizer.group is not None and isinstance(label, tuple)
    last, inner, name = optimizer.group(label[-1])
    whole = chain(*transforms, last)
    return whole, (*label[:-1], inner) if whole.label else None, name


def _split(parts: tuple[Part, ...]) -> tuple[tuple[Transform, ...], Optimizer]:
    """The transforms and the optimizer, checked to be in this order."""
    if not parts:
        raise FunpipeError("chain() has no parts; end it with an optimizer, such as chain(sgd(0.1))")
    for index, part in enumerate(parts):
        _check_part(index, part)
    return tuple(_transform(index, part) for index, part in enumerate(parts[:-1])), _optimizer(parts[-1])


def _transform(index: int, part: Part) -> Transform:
    if isinstance(part, Optimizer):
        raise FunpipeError(f"part {index} of chain, {part}, is an optimizer before the end; move it to the end")
    return part


def _optimizer(part: Part) -> Optimizer:
    if isinstance(part, Transform):
        raise FunpipeError(f"chain ends with the transform {part}; add an optimizer after it, such as adamw(3e-4)")
    return part


def _check_part(index: int, part: Part) -> None:
    if not isinstance(part, (Transform, Optimizer)):
        raise FunpipeTypeError(
            f"part {index} of chain is {part!r}, a {type(part).__name__}; pass Transform or Optimizer values, "
            "such as chain(clip_by_global_norm(1.0), adamw(3e-4))"
        )
    if index and part.needs_norm:
        raise FunpipeError(
            f"part {index} of chain, {part}, needs the global norm, which is that of the gradients before any "
            "transform; move it to the front"
        )
