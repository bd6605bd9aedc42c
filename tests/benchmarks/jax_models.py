"""The benchmarks' models in JAX: pure functions of the weights that `jax_weights` lays out, blocks unrolled."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tests.benchmarks.cases import Case, Convolutional, Perceptron, Transformer
from tests.benchmarks.jax_weights import Weights

Loss = Callable[[Weights, Array, Array], Array]


def loss_of(case: Case) -> Loss:
    """The mean loss of a case's model, as a function of weights, inputs and targets."""
    logits = {Transformer: _transformer, Perceptron: _perceptron, Convolutional: _convolutional}[type(case)]

    def loss(p: Weights, x: Array, y: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits(case, p, x), y).mean()

    return loss


def _transformer(case: Transformer, p: Weights, x: Array) -> Array:
    h = p["first.tokens"]["w"][x] + p["first.positions"]["w"][: x.shape[1]]
    for i in range(case.blocks):
        at = f"blocks.{i}"
        h = h + _attention(p, f"{at}.attention", _layer_norm(p[f"{at}.norm1"], h), case.heads)
        inner = _gelu(_linear(p[f"{at}.mlp.0"], _layer_norm(p[f"{at}.norm2"], h)))
        h = h + _linear(p[f"{at}.mlp.2"], inner)
    return _linear(p["last.1"], _layer_norm(p["last.0"], h))


def _attention(p: Weights, at: str, x: Array, heads: int) -> Array:
    rows, sequence, width = x.shape
    parts = jnp.split(_linear(p[f"{at}.qkv"], x), 3, -1)
    q, k, v = (part.reshape(rows, sequence, heads, width // heads).transpose(0, 2, 1, 3) for part in parts)
    scores = jnp.einsum("rhqd,rhkd->rhqk", q, k) / (width // heads) ** 0.5
    seen = jnp.tril(jnp.ones((sequence, sequence), bool))
    mixed = jnp.einsum("rhqk,rhkd->rhqd", jax.nn.softmax(jnp.where(seen, scores, -1e30), -1), v)
    return _linear(p[f"{at}.out"], mixed.transpose(0, 2, 1, 3).reshape(rows, sequence, width))


def _perceptron(case: Perceptron, p: Weights, x: Array) -> Array:
    for i in range(case.blocks):
        x = x + _gelu(_linear(p[f"blocks.{i}.linear"], x))
    return _linear(p["last"], x)


def _convolutional(case: Convolutional, p: Weights, x: Array) -> Array:
    """Images of shape (rows, height, width, 3)."""
    x = _convolution(p["first"], x, stride=2)
    for i in range(case.blocks):
        x = x + _convolution(p[f"blocks.{i}.conv"], jax.nn.relu(_group_norm(p[f"blocks.{i}.norm"], x, 4)), stride=1)
    return _linear(p["last.linear"], x.mean((1, 2)))


def _linear(p: dict[str, Array], x: Array) -> Array:
    return x @ p["w"] + p["b"]


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


def _convolution(p: dict[str, Array], x: Array, stride: int) -> Array:
    padding = ((1, 1), (1, 1))
    order = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, p["w"], (stride, stride), padding, dimension_numbers=order) + p["b"]


def _layer_norm(p: dict[str, Array], x: Array) -> Array:
    return _normal(x, -1) * p["w"] + p["b"]


def _group_norm(p: dict[str, Array], x: Array, groups: int) -> Array:
    rows, height, width, channels = x.shape
    split = x.reshape(rows, height, width, groups, channels // groups)
    return _normal(split, (1, 2, 4)).reshape(x.shape) * p["w"] + p["b"]


def _normal(x: Array, axes: int | tuple[int, ...]) -> Array:
    centred = x - x.mean(axes, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5)
