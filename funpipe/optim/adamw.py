"""AdamW: Adam with weight decay decoupled from the gradient, and a mask of the leaves that decay."""

from collections.abc import Callable, Hashable
from functools import partial

from torch import Tensor

from funpipe.optim.adam import SLOTS, adam_rule, adam_scalars, check_settings
from funpipe.optim.base import Entries, Label, Optimizer, describe, zero_slots
from funpipe.optim.elementwise import Rule, update_entries
from funpipe.optim.learning_rates import as_learning_rate, given_rate
from funpipe.optim.settings import Settings

UNDECAYED = "no decay"
"""The label of leaves that the mask takes out."""


def adamw(
    lr: float | Callable[[Tensor], Tensor] = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_mask: Callable[[str, Tensor], bool] | None = None,
) -> Optimizer:
    """AdamW, equal to `torch.optim.AdamW`.

    p ← (1 - lr · weight_decay) p, and then Adam's update without weight decay.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        betas: how much of the two moments is kept at each step, each in [0, 1).
        eps: added to the denominator, at least 0.
        weight_decay: the share of a parameter taken off at each step, times lr; at least 0.
        decay_mask: `decay_mask(name, leaf)`, whether a leaf decays; None: all do. It sees leaves, never buckets,
            and only their names, shapes and dtypes: biases and norms are spared by `lambda name, leaf: leaf.dim() > 1`.

    Returns:
        An `Optimizer` whose state is `{"m": {...}, "v": {...}}`.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import adamw, apply
        >>> optimizer = adamw(0.1, weight_decay=0.5, decay_mask=lambda name, leaf: leaf.dim() > 1)
        >>> params = {"bias": torch.ones(1), "weight": torch.ones(1, 1)}
        >>> grads = {"bias": torch.zeros(1), "weight": torch.zeros(1, 1)}
        >>> apply(optimizer, params, grads, optimizer.init(params), torch.tensor(0))[0]
        {'bias': tensor([1.]), 'weight': tensor([[0.9500]])}

    Source: I. Loshchilov and F. Hutter, Decoupled weight decay regularization (2019), algorithm 2.
    """
    check_settings("adamw", betas, eps, weight_decay)
    rate = as_learning_rate("adamw", lr)
    settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    masked = {"decay_mask": decay_mask} if decay_mask else {}
    return Optimizer(
        init=lambda params: zero_slots(params, *SLOTS),
        update=partial(update_entries, _rules(betas, eps, weight_decay), SLOTS),
        label=_label(decay_mask) if decay_mask else None,
        scalars=lambda step: _scalars(step, rate(step), betas, weight_decay),
        name=describe("adamw", **settings, **masked),
        scalars_at=lambda step, lr: _scalars(step, given_rate("adamw", lr), betas, weight_decay),
        settings=Settings.of("adamw", **settings, **masked),
    )


def _label(decay_mask: Callable[[str, Tensor], bool]) -> Label:
    return lambda name, leaf: "decay" if decay_mask(name, leaf) else UNDECAYED


def _scalars(step: Tensor, lr: Tensor, betas: tuple[float, float], weight_decay: float) -> Entries:
    """Adam's, and `kept`: the share of a parameter that decay leaves."""
    return {**adam_scalars(step, lr, betas), "kept": 1 - lr * weight_decay}


def _rules(betas: tuple[float, float], eps: float, weight_decay: float) -> Callable[[Hashable], Rule]:
    undecayed = partial(adam_rule, betas=betas, eps=eps)
    decayed = partial(_decayed_rule, betas=betas, eps=eps)
    return lambda label: undecayed if label == UNDECAYED or not weight_decay else decayed


def _decayed_rule(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, c: Entries, *, betas: tuple[float, float], eps: float
) -> tuple[Tensor, ...]:
    return adam_rule(c["kept"] * p, g, m, v, c, betas=betas, eps=eps)
