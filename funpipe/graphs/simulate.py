"""All ranks of a mesh in one process: each runs its graph until it must wait for another one.

What the ranks give is what processes would give. A circle of ranks that wait for each other is an error which says
where each of them stands.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from funpipe._errors import GraphError
from funpipe._typing import MeshShape
from funpipe.functional.communication import communicating
from funpipe.functional.objects import knowing
from funpipe.graphs.graph import Graph, require_graph
from funpipe.graphs.interpret import bound, call, last_reads
from funpipe.graphs.node import Node, map_refs
from funpipe.graphs.simulated import Board, Simulated


def simulate(
    graphs: Graph | Sequence[Graph], inputs: Sequence[Mapping[str, Any]], mesh: MeshShape
) -> list[dict[str, Any]]:
    """Runs one step on every rank of a mesh, in this process.

    Args:
        graphs: one graph for all ranks, or one for each.
        inputs: each rank's inputs by name. Ranks are in the order of a mesh: those of one pipeline are neighbours, so
            that rank `dp_rank * mesh.pp + pp_rank` comes at that place.
        mesh: the number of pipeline ranks and of replicas.

    Returns:
        Each rank's outputs by name.

    Raises:
        GraphError: ranks wait for each other for ever; or the number of graphs or inputs is not that of ranks.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.functional.communication import OPERATORS as ops
        >>> from funpipe.graphs import from_fx
        >>> total = lambda x: (ops.wait_tensor(ops.all_reduce(x, "sum", "dp")),)
        >>> graph = from_fx(make_fx(total, tracing_mode="fake")(torch.ones(1)).graph, ["batch.x"], ["aux.y"])
        >>> simulate(graph, [{"batch.x": torch.tensor([1.0])}, {"batch.x": torch.tensor([2.0])}], MeshShape(1, 2))
        [{'aux.y': tensor([3.])}, {'aux.y': tensor([3.])}]
    """
    return Ranks(mesh).run(graphs, inputs)


class Ranks:
    """The ranks of a mesh, from step to step: what a step has started, a later one may wait for.

    Args:
        mesh: the number of pipeline ranks and of replicas.
    """

    def __init__(self, mesh: MeshShape) -> None:
        board = Board()
        self.communicators = [Simulated(board, mesh, rank) for rank in range(mesh.pp * mesh.dp)]

    def run(self, graphs: Graph | Sequence[Graph], inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Runs one step on every rank; see `simulate`."""
        count = len(self.communicators)
        each = list(graphs) if isinstance(graphs, Sequence) else [graphs] * count
        for graph in each:
            require_graph(graph, "simulate")
        if (len(each), len(inputs)) != (count, count):
            raise GraphError(f"the mesh has {count} ranks: pass one graph or {count}, and the inputs of {count} ranks.")
        runs = [_Run(g, given, c) for g, given, c in zip(each, inputs, self.communicators, strict=True)]
        while any(not run.done for run in runs):
            advanced = [run.advance() for run in runs]
            if not any(advanced):
                raise GraphError(_deadlock(runs))
        return [run.outputs for run in runs]


class _Run:
    """One rank's run of its graph."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Any], communicator: Simulated) -> None:
        self.graph, self.communicator = graph, communicator
        self.values = bound(graph, inputs)
        self.ends = list(last_reads(graph))
        self.at = 0

    @property
    def done(self) -> bool:
        return self.at == len(self.graph.nodes)

    @property
    def outputs(self) -> dict[str, Any]:
        values = self.values
        return {n: map_refs(lambda ref: values[ref.name], value) for n, value in self.graph.outputs.items()}

    def advance(self) -> bool:
        """Runs until the end or until another rank must go first; says whether it ran anything."""
        begin = self.at
        with torch.no_grad(), knowing(self.graph.objects), communicating(self.communicator):
            for node in self._runnable():
                self.values[node.name] = call(node, self.values)
                for name in self.ends[self.at]:
                    del self.values[name]
                self.at += 1
        return self.at > begin

    def _runnable(self) -> Iterator[Node]:
        while not self.done and self.communicator.ready(self.graph.nodes[self.at], self.values):
            yield self.graph.nodes[self.at]


def _deadlock(runs: Sequence[_Run]) -> str:
    stuck = (f"rank {i} at {run.graph.nodes[run.at].where}" for i, run in enumerate(runs) if not run.done)
    return (
        f"the ranks wait for each other for ever: {', '.join(stuck)}. Start collectives in the same order on all ranks "
        "of an axis, and give every send its receive."
    )
