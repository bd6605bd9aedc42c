"""One device with JAX: the whole step in one jit, the state donated, on one core."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tests.benchmarks.cases import Case, Convolutional
from tests.benchmarks.jax_models import Loss, loss_of
from tests.benchmarks.jax_weights import Weights, weights_of
from tests.benchmarks.models import Chain
from tests.benchmarks.steps import Read, Step


def loop(case: Case, model: Chain, device: str, scan: bool, pinned: bool = True) -> Step:
    """A training step.

    Args:
        case: the batch.
        model: whose weights are copied.
        device: `"cpu"` or `"cuda"`.
        scan: goes over the microbatches in a loop, rather than through the whole batch at once.
        pinned: the process stays on one core from now on; XLA's threads, of which it has no number to set, then
            share that core.
    """
    if pinned and device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with jax.default_device(jax.devices("gpu" if device == "cuda" else "cpu")[0]):
        x, y = arrays(case, scan)
        params = weights_of(model)
        optimizer = optax.adamw(1e-3, weight_decay=0.01)
        state = params, optimizer.init(params)
        compiled = jax.jit(_step(loss_of(case), optimizer, scan), donate_argnums=0)

    def step() -> Read:
        nonlocal state
        state, loss = compiled(state, x, y)
        return lambda: float(loss)

    return step


def has_gpu() -> bool:
    """Whether JAX can use a GPU."""
    return jax.default_backend() == "gpu"


def arrays(case: Case, scan: bool) -> tuple[Array, Array]:
    """The case's batch, channels last; for a scan with the microbatches along the first dimension."""
    x, y = case.batch()
    x = x.permute(0, 2, 3, 1) if isinstance(case, Convolutional) else x
    parts = (case.microbatches, case.rows) if scan else (case.microbatches * case.rows,)
    return jnp.array(x.numpy().reshape(*parts, *x.shape[1:])), jnp.array(y.numpy().reshape(*parts, *y.shape[1:]))


def _step(loss: Loss, optimizer: optax.GradientTransformation, scan: bool) -> Any:
    gradients = _accumulated(loss) if scan else jax.value_and_grad(loss)

    def step(state: Any, x: Array, y: Array) -> tuple[Any, Array]:
        params, moments = state
        value, grads = gradients(params, x, y)
        updates, moments = optimizer.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    return step


def _accumulated(loss: Loss) -> Any:
    """The value and the gradient of the mean over microbatches."""

    def gradients(params: Weights, x: Array, y: Array) -> tuple[Array, Weights]:
        def add(total: Any, rows: tuple[Array, Array]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(loss)(params, *rows)), None

        shapes = jax.eval_shape(jax.value_and_grad(loss), params, x[0], y[0])
        total, _ = jax.lax.scan(add, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), (x, y))
        return jax.tree.map(lambda t: t / x.shape[0], total)

    return gradients
