"""A pipelined step as a graph, for passes over graphs; its state and results in both forms."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from optree import PyTreeSpec
from torch import Tensor

from funpipe.functional.tree import check_same, named_leaves
from funpipe.graphs.node import Ref
from funpipe.graphs.step import Step
from funpipe.programs.graph_of import graph_of
from funpipe.programs.program import Programs
from funpipe.runtime.engine import Engine
from funpipe.runtime.guarding import require_unguarded
from funpipe.runtime.leaves_of_state import is_unused, state_names
from funpipe.runtime.metrics import Metrics, Results
from funpipe.runtime.state import State

Updates = Literal["node", "expanded"]


def as_graph(engine: Engine, updates: Updates = "node") -> Step:
    """This rank's step as a graph, with the trees around it.

    Args:
        engine: of a train step that has a state.
        updates: as for `programs.graph_of`.
    """
    model, lowered = engine.first()
    require_unguarded(lowered.origin.traced)
    setup, programs = engine.setup, lowered.all
    graph = graph_of(programs, setup.rank, setup.optimizer, lowered.origin.traced.consts, updates)
    kept = {f"state.{n}": programs.types[n] for n in _unused_buffers(programs, setup.rank)}
    graph = graph.replace(inputs={**kept, **graph.inputs}, outputs={**{n: Ref(n) for n in kept}, **graph.outputs})
    trees = (_spec(_leaves(graph.inputs, "state.")), model.batch.structure, _spec(_leaves(graph.outputs, "aux.")))
    return Step(graph, *trees, setup.shape, programs.messages)


def values_of(engine: Engine, state: State) -> dict[str, Tensor]:
    """The values of a state, which is consumed.

    Args:
        engine: of the step that made it.
        state: the state.

    Raises:
        StateError: it is of another step, was consumed, or its step did not finish.
    """
    state.require(engine.first()[1].signature)
    state.status, values, state.values = "consumed", state.values, {}
    return values


def state_of(engine: Engine, values: Mapping[str, Tensor]) -> State:
    """A state with the given values.

    Args:
        engine: of a train step that has a state.
        values: by name, as `values_of` gives them and the graph's step returns them.

    Raises:
        TreeError: a value is missing, unknown, or of another shape or dtype.
    """
    lowered = engine.first()[1]
    program = lowered.programs[engine.setup.rank]
    names = (*state_names(program), *_unused_buffers(lowered.all, program.rank))
    check_same({name: lowered.all.types[name] for name in names}, values, "state")
    return State(dict(values), lowered.signature)


def metrics_of(engine: Engine, aux: Mapping[str, Tensor]) -> Metrics:
    """The metrics of all ranks from this rank's results; every rank calls it alike.

    Args:
        engine: of a train step that has a state.
        aux: what the graph's step returned besides the state.
    """
    return engine.metrics(Results.of(engine.first()[1].all), dict(aux))


def _unused_buffers(programs: Programs, rank: int) -> list[str]:
    """The buffers that no program reads: the first rank keeps them."""
    named = [n.removeprefix("buffer.") for n in programs.types if n.startswith("buffer.")] if rank == 0 else []
    return [f"buffer.{n}" for n in named if is_unused(programs, n)]


def _leaves(names: Mapping[str, Any], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def _spec(names: list[str]) -> PyTreeSpec:
    """The structure of a dict with these keys."""
    return named_leaves({name: torch.empty(0, device="meta") for name in names})[1]
