"""The time of every node of a traced graph, operator by operator."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from funpipe.planning.measured import signature
from funpipe.planning.measured_inputs import seconds
from funpipe.stages.costs import computes, types_of
from funpipe.tracing.traced import Traced


def node_seconds(traced: Traced, inputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Runs a graph operator by operator, and times each different operation once, on the values that it then reads.

    Args:
        traced: the graph.
        inputs: a tensor for each leaf, by name.

    Returns:
        The time of one call of a node in seconds, the call itself included, by the node's signature.
    """
    with torch.no_grad():
        timer = _Timer(traced, inputs)
        timer.run()
    return timer.found


class _Timer(fx.Interpreter):
    """Runs the graph once; a value is let go after its last use."""

    def __init__(self, traced: Traced, inputs: Mapping[str, Tensor]) -> None:
        super().__init__(fx.GraphModule({}, _returning_nothing(traced)))
        self.inputs, self.found = inputs, {}
        self.leaf_of = {n.name: ".".join(n.meta["leaf"]) for n in traced.leaves.values()}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "placeholder":
            return self.inputs[self.leaf_of[n.name]]
        if computes(n) and (name := signature(n)) not in self.found:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            call: Any = n.target
            self.found[name] = seconds(lambda: call(*args, **kwargs), device_of(n))
        return super().run_node(n)


def device_of(node: fx.Node) -> str:
    """The type of the device that a node runs on."""
    return next((kind.device for kind in types_of(node)), "cpu")


def _returning_nothing(traced: Traced) -> fx.Graph:
    """A copy without outputs."""
    graph = fx.Graph()
    graph.graph_copy(traced.graph, {})
    graph.output(())
    return graph
