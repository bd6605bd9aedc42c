"""Muon: momentum, orthogonalized as a whole matrix."""

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, Optimizer, State, describe, zero_slots
from funpipe.optim.checks import check_at_least_zero, check_between, check_steps
from funpipe.optim.context import Context
from funpipe.optim.elementwise import coefficients as rounded
from funpipe.optim.elementwise import computing_dtype
from funpipe.optim.groups import groups
from funpipe.optim.learning_rates import as_learning_rate, given_rate
from funpipe.optim.orthogonal import Coefficients, orthogonalize
from funpipe.optim.settings import Settings

Adjust = Literal["original", "match_rms_adamw"]
"""How the learning rate depends on a matrix's shape (r, c): √max(1, r/c), or 0.2 √max(r, c)."""

OTHER_WORDS = ("head", "wte", "wpe")
"""Words in the names of the matrices that are no hidden layer's, besides those that begin with "embed"."""


def muon(
    lr: float | Callable[[Tensor], Tensor] = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
    steps: int = 5,
    adjust: Adjust = "original",
    dtype: torch.dtype = torch.bfloat16,
    rest: Optimizer | None = None,
    matrices: Callable[[str, Tensor], bool] | None = None,
) -> Optimizer:
    """Muon, equal to `torch.optim.Muon`, with another optimizer for the leaves that are no hidden layer's matrix.

    With G the gradient:  B ← μ B + (1 - μ) G;  U = (1 - μ) G + μ B with `nesterov`, else B;
    O = NS(U), the Newton-Schulz iteration X ← a X + (b X Xᵀ + c (X Xᵀ)²) X from U / |U|;
    P ← (1 - lr · weight_decay) P - lr f O, where f depends on the shape alone.

    Each matrix is whole wherever it is updated: a cut of the model, a bucket, or a part of one never divides a leaf.

    Args:
        lr: learning rate, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        weight_decay: the share of a parameter taken off at each step, times lr; at least 0.
        momentum: μ, in [0, 1).
        nesterov: look ahead along the momentum.
        coefficients: a, b and c.
        eps: the least norm that a matrix is divided by.
        steps: iterations of Newton-Schulz.
        adjust: how the learning rate depends on the shape.
        dtype: in which the iteration is computed.
        rest: the optimizer of all other leaves, such as `adamw(3e-4)`; None: there must be none.
        matrices: `matrices(name, leaf)`, which leaves Muon updates; None: those of two dimensions, with `rest` without
            those in whose names a word is "head", "wte" or "wpe", or begins with "embed" (`is_hidden`).

    Returns:
        An `Optimizer` over leaves whose state is `{"momentum": {...}}`, and what `rest` keeps.

    Raises:
        FunpipeError: a setting is out of its range, or, in `init`, a leaf is no matrix.

    Example:
        >>> import torch
        >>> from funpipe.optim import adamw, apply, muon
        >>> optimizer = muon(0.1, weight_decay=0.0, rest=adamw(0.1, weight_decay=0.0))
        >>> leaves = {"bias": torch.ones(1), "weight": torch.eye(2)}
        >>> new, state = apply(optimizer, leaves, leaves, optimizer.init(leaves), torch.tensor(0))
        >>> new["bias"], {slot: list(entries) for slot, entries in state.items()}
        (tensor([0.9000]), {'momentum': ['weight'], 'm': ['bias'], 'v': ['bias']})

    Source: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024).
    """
    _check(weight_decay, momentum, eps, steps, adjust)
    settings = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
    settings |= {"coefficients": coefficients, "eps": eps, "steps": steps, "adjust": adjust, "dtype": dtype}
    rate = as_learning_rate("muon", lr)
    own = Optimizer(
        init=_init,
        update=partial(_update, settings),
        scalars=lambda step: _scalars(rate(step), weight_decay),
        name=describe("muon", lr=lr, weight_decay=weight_decay, momentum=momentum, adjust=adjust, steps=steps),
        scalars_at=lambda step, lr: _scalars(given_rate("muon", lr), weight_decay),
        settings=Settings.of("muon", **settings),
        scope="leaf",
    )
    if rest is None:
        return own
    chosen = matrices or is_hidden
    return groups({"muon": own, "rest": rest}, lambda name, leaf: "muon" if chosen(name, leaf) else "rest")


def is_hidden(name: str, leaf: Tensor) -> bool:
    """Whether a leaf is the matrix of a hidden layer, by its dimensions and the words of its name.

    Args:
        name: of the leaf; dots and underscores part its words.
        leaf: only its dimensions are read.

    Example:
        >>> is_hidden("layers.0.weight", torch.ones(2, 2)), is_hidden("lm_head.weight", torch.ones(2, 2))
        (True, False)
        >>> is_hidden("multihead_attn.in_proj_weight", torch.ones(2, 2))
        True
    """
    words = name.lower().replace("_", ".").split(".")
    return leaf.dim() == 2 and not any(word in OTHER_WORDS or word.startswith("embed") for word in words)


def _init(params: Entries) -> State:
    for name, leaf in params.items():
        if leaf.dim() not in (0, 2):  # without a dimension it stands for any leaf
            raise FunpipeError(
                f"muon: leaf {name!r} has shape {tuple(leaf.shape)}, and only matrices can be orthogonalized; give the "
                "others an optimizer, as in muon(rest=fp.optim.adamw(3e-4))"
            )
    return zero_slots(params, "momentum")


def _scalars(lr: Tensor, weight_decay: float) -> Entries:
    return {"lr": lr, "kept": 1 - lr * weight_decay}


def _update(
    settings: dict[str, Any], grads: Entries, state: State, params: Entries, ctx: Context
) -> tuple[Entries, State]:
    new = {name: _matrix(settings, p, grads[name], state["momentum"][name], ctx) for name, p in params.items()}
    return {name: p for name, (p, _) in new.items()}, {"momentum": {name: b for name, (_, b) in new.items()}}


def _matrix(settings: dict[str, Any], p: Tensor, g: Tensor, b: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
    """One matrix; those of 16 bits are computed in float32."""
    kinds, dtype = (p.dtype, b.dtype), computing_dtype(p)
    c = rounded(ctx.scalars, p)
    p, g, b = (x.to(dtype) for x in (p, g, b))
    b = between(b, g, 1 - settings["momentum"])
    u = between(g, b, settings["momentum"]) if settings["nesterov"] else b
    o = orthogonalize(u, settings["coefficients"], settings["steps"], settings["eps"], settings["dtype"])
    p = c["kept"] * p - c["lr"] * _adjusted(settings["adjust"], p.shape) * o.to(dtype)
    return p.to(kinds[0]), b.to(kinds[1])


def between(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """From one to the other, rounded as `torch.lerp` does."""
    return start + weight * (end - start) if weight < 0.5 else end - (end - start) * (1 - weight)


def _adjusted(adjust: Adjust, shape: torch.Size) -> float:
    return sqrt(max(1, shape[0] / shape[1])) if adjust == "original" else 0.2 * sqrt(max(shape))


def _check(weight_decay: float, momentum: float, eps: float, steps: int, adjust: str) -> None:
    check_at_least_zero("muon: weight_decay", weight_decay, 0.1)
    check_between("muon: momentum", momentum, 0, 1, "pass a number such as 0.95")
    check_at_least_zero("muon: eps", eps, 1e-7)
    check_steps("muon: steps", steps, least=1)
    if adjust not in ("original", "match_rms_adamw"):
        raise FunpipeError(f"muon: adjust is {adjust!r}; use 'original' or 'match_rms_adamw'")
