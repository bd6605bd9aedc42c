"""The graphs that run when work moves into the next step: of the first step, any other, the last, and what is left."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import fx

from funpipe import FunpipeError
from funpipe.functional.objects import knowing
from funpipe.graphs import Graph, to_fx
from funpipe.graphs.effects import writes
from funpipe.interop.spmd.errors import SpmdValueError
from funpipe.interop.spmd.iter_graph import Move
from funpipe.interop.spmd.rewriting.chain import chained
from funpipe.interop.spmd.rewriting.readers import (
    late_leaves,
    require_no_reader,
    settled,
    views_of,
    with_views_at_readers,
)
from funpipe.passes.rotation import RotatedGraphs, rotated


@dataclass(frozen=True, eq=False)
class Runnable:
    """A graph and the module that runs it, which is made when it is first asked for.

    Args:
        graph: names the inputs and outputs.
        lowered: runs it in another way than operator by operator; None for that.
    """

    graph: Graph
    lowered: fx.GraphModule | None = None

    @cached_property
    def module(self) -> fx.GraphModule:
        """Takes the inputs in order, and gives the outputs in order."""
        return self.lowered or to_fx(self.graph)

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the graph.

        Args:
            values: for each input its value; others are left alone.

        Returns:
            The outputs by name.
        """
        constants = self.graph.constants
        given = [constants[name] if name in constants else values[name] for name in self.graph.inputs]
        with knowing(self.graph.objects):
            return dict(zip(self.graph.outputs, self.module(*given), strict=True))


@dataclass(frozen=True, eq=False)
class Steps:
    """What runs instead of one graph.

    Args:
        setup: the first step, without the work that moves.
        main: that work of the step before, and this step without it.
        cleanup: a last step: that work of the step before, and this step whole.
        flush: that work of the step before alone.
        late: the outputs that it makes, by name.
    """

    setup: Runnable
    main: Runnable
    cleanup: Runnable
    flush: Runnable
    late: tuple[str, ...]

    def with_main(self, module: fx.GraphModule) -> "Steps":
        """The same with another module that runs the main graph."""
        return replace(self, main=Runnable(self.main.graph, module))


def steps_of(graph: Graph, moves: list[Move]) -> Steps:
    """The graphs that carry out moves.

    Args:
        graph: of one whole step.
        moves: work of it that is to run in the next step; at least one.

    Returns:
        The graphs.

    Raises:
        SpmdValueError: a move is not possible: something before its target reads what it makes, a moved node is gone,
            what it makes is wanted in its own step, or the graph overwrites something.
    """
    _require_functional(graph)
    for move in moves:
        _require_there(graph, move)
    graphs = [_rotated(graph, move) for move in moves]
    return _steps(graphs[0] if len(moves) == 1 else _cut(graph, [node.name for move in moves for node in move.nodes]))


def _steps(graphs: RotatedGraphs) -> Steps:
    setup, main, flush = (Runnable(graph) for graph in (graphs.first, graphs.main, graphs.flush))
    cleanup = Runnable(chained(graphs.main, graphs.flush))
    return Steps(setup, main, cleanup, flush, tuple(f"state.{leaf}" for leaf in graphs.late))


def _require_functional(graph: Graph) -> None:
    for node in graph.nodes:
        if names := writes(node):
            raise SpmdValueError(
                f"{node.where} overwrites {names[0]!r}, and work moves to the next iteration in graphs alone that "
                "overwrite nothing: insert the operator that gives a new value, such as aten.mul for aten.mul_."
            )


def _require_there(graph: Graph, move: Move) -> None:
    for node in move.nodes:
        if node.name not in graph.positions:
            raise SpmdValueError(
                f"the node {node.name!r} of a move to the next iteration is no longer in the graph: apply passes that "
                "replace nodes before the nodes are moved."
            )


def _rotated(graph: Graph, move: Move) -> RotatedGraphs:
    """The graphs that carry out one move."""
    moved = frozenset(node.name for node in move.nodes)
    views = {n: leaf for n, leaf in views_of(graph, late_leaves(graph, moved)).items() if n not in moved}
    graph = with_views_at_readers(graph, views)
    target = settled(graph, views, move.target.name)
    require_no_reader(graph, moved, views, target, move.target.name)
    return _cut(graph, list(moved), target)


def _cut(graph: Graph, names: list[str], before: str | None = None) -> RotatedGraphs:
    try:
        return rotated(graph, names, before)
    except FunpipeError as error:
        first = min(names, key=graph.positions.__getitem__)
        raise SpmdValueError(
            f"{first!r} and what depends on it cannot be moved to the next iteration: {error}"
        ) from error
