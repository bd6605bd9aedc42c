"""Adafactor: the second moment of a matrix as one row and one column."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, Optimizer, State, describe, zero_slots
from funpipe.optim.checks import check_at_least_zero
from funpipe.optim.context import Context
from funpipe.optim.elementwise import coefficients, computing_dtype
from funpipe.optim.groups import groups
from funpipe.optim.learning_rates import as_learning_rate, given_rate
from funpipe.optim.settings import Settings

Leaf = tuple[Tensor, tuple[Tensor, ...]]
"""A leaf and its slots."""


def adafactor(
    lr: float | Callable[[Tensor], Tensor] = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adafactor, equal to `torch.optim.Adafactor`: no momentum, relative steps, updates clipped by their size.

    With G the gradient, t the number of this update, RMS the root of the mean square, β = 1 - t^beta2_decay,
    ρ = min(lr, 1/√t) and α = max(ε₂, RMS(P)) ρ:
    R ← β R + (1 - β) · row means of G²;  C ← β C + (1 - β) · column means of G²;  V = R C / mean(R)
    (of a vector V ← β V + (1 - β) G²);  U = G / √V;  P ← (1 - lr · weight_decay) P - α U / max(1, RMS(U) / d).

    Args:
        lr: the largest relative step, or a function from the step (0-dim int64 tensor) to it (0-dim tensor).
        beta2_decay: at most 0.
        eps: ε₁, the least V is ε₁² and the least mean of R is ε₁, None: that of the dtype; and ε₂.
        d: from which RMS on an update is clipped, at least 1.
        weight_decay: the share of a parameter taken off at each step, times lr; at least 0.

    Returns:
        An `Optimizer` over leaves whose state is `{"row_var": {...}, "col_var": {...}}` of the leaves with several
        dimensions, and `{"variance": {...}}` of the others.

    Raises:
        FunpipeError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from funpipe.optim import adafactor
        >>> state = adafactor().init({"bias": torch.ones(3), "weight": torch.ones(2, 3)})
        >>> {slot: {name: tuple(x.shape) for name, x in leaves.items()} for slot, leaves in state.items()}
        {'variance': {'bias': (3,)}, 'row_var': {'weight': (2, 1)}, 'col_var': {'weight': (1, 3)}}

    Source: N. Shazeer and M. Stern, Adafactor: adaptive learning rates with sublinear memory cost (2018), algorithms
        4 and 5.
    """
    _check(beta2_decay, eps, d, weight_decay)
    settings = {"lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay}
    rate = as_learning_rate("adafactor", lr)

    def part(slots: tuple[str, ...], first: Callable[[Entries], State], rule: Callable[..., Leaf]) -> Optimizer:
        return Optimizer(
            init=first,
            update=partial(_update, slots, partial(rule, eps=eps, d=d)),
            scalars=lambda step: _scalars(step, rate(step), beta2_decay, weight_decay),
            name=describe("adafactor", **settings),
            scalars_at=lambda step, lr: _scalars(step, given_rate("adafactor", lr), beta2_decay, weight_decay),
            settings=Settings.of(f"adafactor of {slots[0]}", **settings),
            scope="leaf",
        )

    parts = {
        "matrix": part(("row_var", "col_var"), _factors, _matrix),
        "vector": part(("variance",), lambda params: zero_slots(params, "variance"), _vector),
    }
    return groups(parts, lambda name, leaf: "matrix" if leaf.dim() > 1 else "vector")


def _factors(params: Entries) -> State:
    zero_slots(params)
    rows = {n: p.new_zeros((*p.shape[:-1], 1)) for n, p in params.items()}
    return {"row_var": rows, "col_var": {n: p.new_zeros((*p.shape[:-2], 1, *p.shape[-1:])) for n, p in params.items()}}


def _scalars(step: Tensor, lr: Tensor, beta2_decay: float, weight_decay: float) -> Entries:
    t = step.to(torch.float64) + 1
    return {"taken": t**beta2_decay, "rho": torch.minimum(lr, 1 / t.sqrt()), "kept": 1 - lr * weight_decay}


def _update(
    slots: tuple[str, ...],
    rule: Callable[..., Leaf],
    grads: Entries,
    state: State,
    params: Entries,
    ctx: Context,
) -> tuple[Entries, State]:
    new = {n: _leaf(rule, p, grads[n], tuple(state[slot][n] for slot in slots), ctx) for n, p in params.items()}
    kept = {slot: {n: values[i] for n, (_, values) in new.items()} for i, slot in enumerate(slots)}
    return {n: p for n, (p, _) in new.items()}, kept


def _leaf(rule: Callable[..., Leaf], p: Tensor, g: Tensor, slots: tuple[Tensor, ...], ctx: Context) -> Leaf:
    """One leaf; those of 16 bits are computed in float32."""
    dtype, c = computing_dtype(p), coefficients(ctx.scalars, p)
    new, values = rule(p.to(dtype), g.to(dtype), *(x.to(dtype) for x in slots), c)
    return new.to(p.dtype), tuple(x.to(slot.dtype) for x, slot in zip(values, slots, strict=True))


def _matrix(
    p: Tensor, g: Tensor, r: Tensor, c: Tensor, s: Entries, *, eps: tuple[float | None, float], d: float
) -> Leaf:
    least = _least(eps, p)
    r = r + s["taken"] * ((g * g).mean(-1, keepdim=True) - r)
    c = c + s["taken"] * ((g * g).mean(-2, keepdim=True) - c)
    v = r * c / r.mean(-2, keepdim=True).clamp(min=least)
    return _moved(p, g, v, s, least, eps[1], d), (r, c)


def _vector(p: Tensor, g: Tensor, v: Tensor, s: Entries, *, eps: tuple[float | None, float], d: float) -> Leaf:
    v = v + s["taken"] * (g * g - v)
    return _moved(p, g, v, s, _least(eps, p), eps[1], d), (v,)


def _moved(p: Tensor, g: Tensor, v: Tensor, s: Entries, least: float, least_size: float, d: float) -> Tensor:
    u = g * v.clamp(min=least * least).rsqrt()
    step = rms(p).clamp(min=least_size) * s["rho"] / (rms(u) / d).clamp(min=1.0)
    return s["kept"] * p - step * u


def rms(x: Tensor) -> Tensor:
    """The root of the mean square."""
    return (x * x).mean().sqrt()


def _least(eps: tuple[float | None, float], p: Tensor) -> float:
    return torch.finfo(p.dtype).eps if eps[0] is None else eps[0]


def _check(beta2_decay: float, eps: tuple[float | None, float], d: float, weight_decay: float) -> None:
    if not beta2_decay <= 0:
        raise FunpipeError(f"adafactor: beta2_decay is {beta2_decay!r}; pass a number of at most 0, such as -0.8")
    if not d >= 1:
        raise FunpipeError(f"adafactor: d is {d!r}; pass a number from 1 on, such as 1.0")
    for value in (*(e for e in eps if e is not None), weight_decay):
        check_at_least_zero("adafactor: eps and weight_decay", value, 1e-3)
