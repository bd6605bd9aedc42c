"""A step's source run in Python as it stands, its graphs operator by operator: no compiler is involved."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from funpipe.backends import Request, ops
from funpipe.backends.emit import Emitted, Graph, emit
from funpipe.backends.link import function_of
from funpipe.backends.numbers import Numbers, parted
from funpipe.backends.step import WholeStep
from funpipe.optim import Optimizer
from funpipe.programs import Programs

Called = Callable[[list[Tensor]], Sequence[Tensor]]


def emptying(name: str, graph: Graph) -> Called:
    """A graph as compiled code calls it: the list that it is given is empty when the operators run.

    Args:
        name: by which the source calls it.
        graph: the graph.
    """

    def run(arguments: list[Tensor]) -> Sequence[Tensor]:
        taken = list(arguments)
        arguments.clear()
        return graph.module(*taken)

    return run


def function(emitted: Emitted, call: Callable[[str, Graph], Called] = emptying) -> Callable[..., Sequence[Tensor]]:
    """The step function.

    Args:
        emitted: its source.
        call: makes what is called for a graph.
    """
    graphs = {name: call(name, graph) for name, graph in emitted.graphs.items()}
    return function_of(emitted.source, "step", {"torch": torch, "ops": ops.DIRECT, **graphs})


def uncompiled(
    programs: Programs, request: Request, optimizer: Optimizer | None, example: Sequence[Tensor]
) -> WholeStep:
    """A rank's step, as the backend `step` makes it, of graphs that are not compiled."""
    emitted = emit(programs, request.rank, optimizer, request.transport)
    return WholeStep(programs.programs[request.rank], emitted, function(emitted), {})


def uncompiled_parts(
    programs: Programs, request: Request, optimizer: Optimizer | None, example: Sequence[Tensor]
) -> WholeStep:
    """The same in two parts, as for a GPU."""
    emitted = emit(programs, request.rank, optimizer, request.transport)
    parts = parted(emitted)
    if parts is None:
        return WholeStep(programs.programs[request.rank], emitted, function(emitted), {})
    graphs = {name: emptying(name, graph) for name, graph in emitted.graphs.items()}
    numbers = Numbers(parts, graphs, "cpu")
    return WholeStep(programs.programs[request.rank], parts.rest, function(parts.rest), {}, numbers)
