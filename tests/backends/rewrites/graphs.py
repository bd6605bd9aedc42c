"""Flat graphs for the tests of rewrites, and what they compute."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._typing import TensorType
from funpipe.backends.rewrites import rewritten

Function = Callable[..., Sequence[Tensor]]


def graph_of(function: Function, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """The flat ATen graph of a function, as a trace of the project has it."""
    return make_fx(function, tracing_mode="fake")(*inputs)


def rewritten_for(function: Function, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """The rewritten graph of a function."""
    return rewritten(graph_of(function, inputs), [TensorType.of(t) for t in inputs])


def called(module: fx.GraphModule) -> list[str]:
    """The operators that a graph calls, in order."""
    return [str(node.target) for node in module.graph.nodes if node.op == "call_function"]


def assert_same(function: Function, inputs: Sequence[Tensor], tolerance: float) -> fx.GraphModule:
    """The rewritten graph, whose results have the types of the trace, and values up to a part of the largest."""
    module = rewritten_for(function, inputs)
    assert _types(module) == _types(graph_of(function, inputs))
    found, wanted = module(*inputs), function(*inputs)
    assert [TensorType.of(t) for t in found] == _types(module)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(1, float(theirs.abs().max())))
    return module


def _types(module: fx.GraphModule) -> list[TensorType]:
    """The types of the outputs in the trace: what regions promise each other."""
    outputs = next(reversed(module.graph.nodes)).args[0]
    return [TensorType.of(node.meta["val"]) for node in outputs]
