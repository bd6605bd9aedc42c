"""A torch model's weights as JAX would lay them out, by the module's path."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from torch import Tensor, nn

Weights = dict[str, dict[str, Array]]
"""`{"blocks.0.attention.qkv": {"w": (in, out), "b": (out,)}}`"""


def weights_of(model: nn.Module) -> Weights:
    """Copies of all parameters.

    Args:
        model: of linear layers, convolutions, norms and embeddings; anything else with parameters is a KeyError.
    """
    return {
        path: {name: _array(value) for name, value in _LAYOUTS[type(module)](module).items()}
        for path, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    }


def _array(value: Tensor) -> Array:
    dtype = str(value.dtype).removeprefix("torch.")
    return jnp.array(value.detach().cpu().float().numpy(), dtype)


def _linear(module: nn.Linear) -> dict[str, Tensor]:
    return {"w": module.weight.T, "b": module.bias}


def _convolution(module: nn.Conv2d) -> dict[str, Tensor]:
    assert module.bias is not None
    return {"w": module.weight.permute(2, 3, 1, 0), "b": module.bias}  # height, width, in, out


def _norm(module: nn.LayerNorm | nn.GroupNorm) -> dict[str, Tensor]:
    return {"w": module.weight, "b": module.bias}


def _embedding(module: nn.Embedding) -> dict[str, Tensor]:
    return {"w": module.weight}


_LAYOUTS: dict[type, Callable[..., dict[str, Tensor]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.LayerNorm: _norm,
    nn.GroupNorm: _norm,
    nn.Embedding: _embedding,
}
