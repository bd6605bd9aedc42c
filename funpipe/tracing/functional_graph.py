"""A traced graph without mutation: in-place operators become their functional forms, values are never written again."""

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta

from funpipe.tracing.operators import mutates


def without_mutation(graph: fx.Graph, inputs: list[Tensor]) -> fx.Graph:
    """The same computation with no operator that writes to its arguments.

    Args:
        graph: flat (tensors in, a list of tensors out).
        inputs: fake tensors, one for each placeholder.

    Returns:
        The graph itself if nothing in it mutates, else a new one with the same placeholders and outputs.
    """
    if not any(mutates(n) for n in graph.nodes):
        return graph
    run = fx.Interpreter(fx.GraphModule({}, graph)).run
    functional = torch.func.functionalize(lambda *args: run(*args, enable_io_processing=False), remove="mutations")
    with preserve_node_meta():
        return make_fx(functional, tracing_mode="fake")(*inputs).graph
