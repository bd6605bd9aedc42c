"""Noise on the gradients, the same for every cut, mesh and backend."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.functional.random.keys import from_name
from funpipe.functional.random.keys import key as key_of
from funpipe.functional.random.normal import normal
from funpipe.optim.base import Entries, State, Transform, describe, no_state
from funpipe.optim.context import Context
from funpipe.optim.settings import Settings


def add_noise(*, noise_multiplier: float, max_norm: float, batch_size: int, key: int | None = None) -> Transform:
    """Adds normal noise of standard deviation `noise_multiplier * max_norm / batch_size` to the gradients.

    With the mean of per-sample gradients clipped to `max_norm` (`funpipe.private_step`) it is the noise of DP-SGD: that
    of the sum has the standard deviation `noise_multiplier * max_norm`. It is added once per step, on the owner of
    each leaf, after the replicas' gradients have been added. What is drawn depends on the key, the step and the leaf's
    name alone. The generator is Philox, which is not a cryptographic one.

    Args:
        noise_multiplier: 0 or above.
        max_norm: to which the samples' gradients were clipped; above 0.
        batch_size: the number of samples of the global batch (where batches are sampled, of the expected one).
        key: of the noise alone, a number that nobody else knows; None: the noise is drawn from the key of the step
            (`train_step(..., key=)`), which is a part of the state and is saved with it.

    Returns:
        A `Transform`, for the front of a `chain`. With it each leaf is updated by itself.

    Raises:
        FunpipeError: a number is out of its range; or, in an update, there is no key.

    Example:
        >>> from funpipe.optim import add_noise, apply, chain, sgd
        >>> noise = add_noise(noise_multiplier=1.0, max_norm=2.0, batch_size=4, key=0)
        >>> params = {"w": torch.zeros(10000)}
        >>> new, _ = apply(chain(noise, sgd(1.0)), params, params, {"0": {}, "1": {}}, torch.tensor(0))
        >>> abs(new["w"].std() - 0.5) < 0.01
        tensor(True)

    Source: M. Abadi et al., Deep learning with differential privacy (2016), algorithm 1.
    """
    _check("noise_multiplier", noise_multiplier, lambda x: x >= 0, "0 or above, such as 1.1")
    _check("max_norm", max_norm, lambda x: x > 0, "above 0, such as 1.0")
    _check("batch_size", batch_size, lambda x: x > 0, "above 0: the samples of all replicas together")
    std = noise_multiplier * max_norm / batch_size

    def apply(grads: Entries, state: State, params: Entries, ctx: Context) -> tuple[Entries, State]:
        drawn_from = _key(ctx, own)
        return {
            name: _noisy(grad, from_name(drawn_from.to(grad.device), name), std) for name, grad in grads.items()
        }, state

    arguments = {"noise_multiplier": noise_multiplier, "max_norm": max_norm, "batch_size": batch_size, "key": key}
    own = None if key is None else key_of(key)
    return Transform(
        no_state,
        apply,
        name=describe("add_noise", **arguments),
        settings=Settings.of("add_noise", **arguments),
        scope="leaf",
        needs_key=key is None,
        needs_names=True,
    )


def _key(ctx: Context, own: Tensor | None) -> Tensor:
    """The key of this step's noise, from the key of the noise alone if it has one."""
    key = ctx.key if own is None else replace(ctx, base_key=own.to(ctx.step.device)).key
    if key is None:
        raise FunpipeError(
            "add_noise has no key: give the step one, as in fp.private_step(..., key=0), or the noise its own, as in "
            "fp.optim.add_noise(..., key=0)."
        )
    return key


def _noisy(grad: Tensor, key: Tensor, std: float) -> Tensor:
    dtype = torch.promote_types(grad.dtype, torch.float32)
    return (grad.to(dtype) + normal(key, grad.shape, std=std, dtype=dtype, device=grad.device)).to(grad.dtype)


def _check(name: str, value: object, fits: Callable[[float], bool], what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise FunpipeError(f"add_noise: {name} is {value!r}; pass a number {what}.")
