"""Optimizers by label, where the labels are a tree, patterns of names, or a function."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from torch import Tensor

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.functional.patterns import matches
from funpipe.optim.base import Optimizer
from funpipe.optim.freeze import freeze
from funpipe.optim.groups import groups

FREEZE = "freeze"
"""The label of leaves that stay as they are, unless an optimizer has this name."""


def multi_transform(
    optimizers: Mapping[str, Optimizer | None], labels: Mapping[str, Any] | Callable[[str, Tensor], str]
) -> Optimizer:
    """Updates each leaf by the optimizer of its label; `groups` with other ways to say which leaf has which.

    Args:
        optimizers: by label; None, and the label "freeze" without an optimizer: the leaves stay as they are.
        labels: a function `label(name, leaf)`; or a tree of labels, or a part of one, with a label where a subtree
            would be; or labels by pattern: `{"*.bias": "slow", "layers.0": "freeze", "*": "fast"}`. A leaf has the
            label of its own name, else of the first pattern that matches: a subtree, or a name in which `*` stands for
            any characters.

    Returns:
        What `groups` returns: the state has the slots of all optimizers, each with its leaves.

    Raises:
        FunpipeError: there are no optimizers; when leaves are labelled, one has no label, or an unknown one; when a
            step is made, a pattern matches no leaf.
        FunpipeTypeError: a value is no optimizer, or the labels are neither a tree nor a function.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, multi_transform, sgd
        >>> optimizer = multi_transform({"fast": sgd(1.0)}, {"body": {"*.bias": "freeze"}, "*": "fast"})
        >>> leaves = {"body.0.bias": torch.ones(1), "head": torch.ones(1)}
        >>> apply(optimizer, leaves, leaves, {}, torch.tensor(0))[0]
        {'body.0.bias': tensor([1.]), 'head': tensor([0.])}

    Source: optax.transforms.partition (earlier multi_transform), whose meaning of labels this is.
    """
    known = {name: freeze() if optimizer is None else optimizer for name, optimizer in optimizers.items()}
    if known and FREEZE not in known and _may_freeze(labels):
        known[FREEZE] = freeze()
    made = groups(known, _function(labels))
    return replace(made, patterns=made.patterns + _patterns(labels))


def _may_freeze(labels: object) -> bool:
    """Whether a label may be "freeze"; what a function returns is not known."""
    return FREEZE in dict(_flat("", labels)).values() if isinstance(labels, Mapping) else True


def _patterns(labels: object) -> tuple[str, ...]:
    return tuple(name for name, _ in _flat("", labels)) if isinstance(labels, Mapping) else ()


def _function(labels: Any) -> Callable[[str, Tensor], str]:
    if not isinstance(labels, Mapping) and callable(labels):
        return cast("Callable[[str, Tensor], str]", labels)
    if not isinstance(labels, Mapping):
        raise FunpipeTypeError(
            f"multi_transform: labels is of type {type(labels).__name__}; pass a tree of labels, labels by pattern "
            'such as {"*.bias": "slow", "*": "fast"}, or a function of name and leaf'
        )
    by_pattern = dict(_flat("", labels))
    return lambda name, leaf: _label(by_pattern, name)


def _flat(prefix: str, labels: Any) -> Iterator[tuple[str, str]]:
    """Labels by dotted name, in the order given."""
    items = labels.items() if isinstance(labels, Mapping) else enumerate(labels)
    for key, value in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping | list | tuple):
            yield from _flat(name, value)
        else:
            yield name, value


def _label(by_pattern: dict[str, str], name: str) -> str:
    if name in by_pattern:
        return by_pattern[name]
    for pattern, label in by_pattern.items():
        if matches(name, pattern):
            return label
    raise FunpipeError(
        f"multi_transform: leaf {name!r} has no label: the labels are for {list(by_pattern)[:5]}; label it, or all the "
        'others by the pattern "*"'
    )
