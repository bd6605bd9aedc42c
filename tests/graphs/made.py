"""Graphs for the tests of this folder."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.functional.communication import OPERATORS as ops
from funpipe.graphs import Graph, from_fx


def graph_of(function, *given, inputs=None, outputs=None) -> Graph:
    """A function of tensors that returns a tuple, as a graph."""
    traced = make_fx(function, tracing_mode="fake")(*given)
    return from_fx(traced.graph, inputs, outputs)


def summed(x: torch.Tensor, axis: str = "dp") -> torch.Tensor:
    """The sum over an axis."""
    return ops.wait_tensor(ops.all_reduce(x, "sum", axis))
