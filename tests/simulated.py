"""A function on every rank of a mesh, in one process."""

from collections.abc import Callable, Sequence
from typing import Any

from funpipe._typing import MeshShape
from funpipe.graphs import Step, simulate
from funpipe.tracing import trace_step


def places(mesh: MeshShape) -> list[dict[str, int]]:
    """Where each rank is, in the order of the mesh."""
    return [{"dp": dp, "pp": pp} for dp in range(mesh.dp) for pp in range(mesh.pp)]


def steps(step: Step, states: Sequence[Any], batches: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each rank's new state and results, from its state and batch."""
    given = [step.inputs(s, b, p) for s, b, p in zip(states, batches, places(step.mesh), strict=True)]
    return [step.results(outputs) for outputs in simulate(step.graph, given, step.mesh)]


def on_ranks(function: Callable[[Any], Any], batches: Sequence[Any], mesh: MeshShape) -> list[Any]:
    """What a function with collectives returns on each rank, from that rank's argument."""
    step = trace_step(lambda state, batch: (state, function(batch)), {}, batches[0], mesh=mesh)
    return [aux for _, aux in steps(step, [{}] * len(batches), batches)]


def nodes(function: Callable[[Any], Any], batch: Any, mesh: MeshShape) -> list[str]:
    """The names of the operators that a function becomes."""
    step = trace_step(lambda state, given: (state, function(given)), {}, batch, mesh=mesh)
    return [node.name for node in step.graph.nodes]
