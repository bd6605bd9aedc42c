"""A traced graph without mutation: in-place operators become their functional forms, values are never written again."""

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta

from funpipe.tracing.operators import mutates

aten = torch.ops.aten


def _batch_norm(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
) -> Any:
    """`native_batch_norm` writes to its statistics although its schema does not say so; this form does say so."""
    if mean is None:
        return aten._native_batch_norm_legit.no_stats(x, weight, bias, training, momentum, eps)
    if not training:
        return aten._native_batch_norm_legit_no_training.default(x, weight, bias, mean, var, momentum, eps)
    return aten._native_batch_norm_legit.default(x, weight, bias, mean, var, training, momentum, eps)


DECOMPOSITIONS = {aten.native_batch_norm.default: _batch_norm}
"""Operators whose schema hides what they write to, as ones whose schema shows it."""


def without_mutation(module: fx.GraphModule, inputs: list[Tensor]) -> fx.GraphModule:
    """The same computation with no operator that writes to its arguments.

    Args:
        module: a flat graph (lists of tensors in, a list of tensors out).
        inputs: fake tensors, one for each placeholder.

    Returns:
        The module itself if nothing in it mutates, else a new one with the same placeholders and outputs.
    """
    if not any(mutates(n) for n in module.graph.nodes):
        return module
    run = fx.Interpreter(module).run
    functional = torch.func.functionalize(lambda *args: run(*args, enable_io_processing=False), remove="mutations")
    with preserve_node_meta():
        return make_fx(functional, tracing_mode="fake")(*inputs)
