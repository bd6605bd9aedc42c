"""A graph made ready to run on this rank, together with all other ranks."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch.distributed as dist
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.backends.graph_step import graph_step
from funpipe.backends.spans import label_of_node, span
from funpipe.functional.communication import Communicator, communicating
from funpipe.graphs.communication import axis_of, is_start
from funpipe.graphs.graph import Graph
from funpipe.graphs.interpret import interpret
from funpipe.graphs.node import operator_name
from funpipe.graphs.text import node_text, type_text, value_text
from funpipe.runtime.agreement import require_compiled, require_same_graphs
from funpipe.runtime.collecting import no_collecting
from funpipe.runtime.consumed import CONSUMED, UNFINISHED, mark
from funpipe.runtime.current import on
from funpipe.runtime.graph_inputs import GraphInputs
from funpipe.runtime.place import Place
from funpipe.runtime.progress import Progress
from funpipe.runtime.together import breaking, require_same_call, telling

Backend = Literal["step", "interpret"]
T = TypeVar("T")
Run = Callable[[Communicator, list[Tensor]], Sequence[Any]]


class CompiledGraph:
    """A graph on this rank, ready to run.

    Args:
        graph: the graph.
        place: where it runs.
        run: takes the communicator and the inputs in order; gives the outputs in order.
        text: what runs, for reading.
        name: tells it from other graphs of a step.
    """

    def __init__(self, graph: Graph, place: Place, run: Run, text: Callable[[], str], name: str) -> None:
        self.graph, self.place, self.run, self.text, self.name = graph, place, run, text, name
        self.inputs = GraphInputs(graph, place.along, place.device)

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the graph; all ranks call it alike.

        Args:
            values: the inputs by name, but constants and `axis.…`. Those that it overwrites are consumed.

        Returns:
            The outputs by name.

        Raises:
            TreeError, BatchError, StateError: an input is not as it was traced, on this rank or on another.
        """
        place = self.place
        with telling(place.transport):
            self.inputs.check(values)
            ordered = self.inputs.ordered(values)
        require_same_call(self.number, self.name, place.transport)
        taken = self._taken(values)
        mark(taken, UNFINISHED)
        with breaking(place.transport), on(place.device):
            found = self.run(place.communicator, ordered)
        mark(taken, CONSUMED)
        mine = {id(leaf) for leaf in taken}
        return {n: v.detach() if id(v) in mine else v for n, v in zip(self.graph.outputs, found, strict=True)}

    def as_text(self) -> str:
        """What runs."""
        return self.text()

    def _taken(self, values: Mapping[str, Any]) -> list[Tensor]:
        """The whole state, if the graph overwrites any of it."""
        if not self.inputs.consumes:
            return []
        return [values[n] for n in self.inputs.given if n.startswith("state.") or n in self.inputs.overwritten]

    @cached_property
    def number(self) -> int:
        """What all ranks tell each other before they run it; the graphs of a pipeline differ from rank to rank."""
        text = self.name if self.place.is_stage else f"{self.name}\n{digest_text(self.graph)}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def digest_text(graph: Graph) -> str:
    """What all ranks must agree on: the graph without where its nodes come from."""
    lines = [f"{name}: {type_text(kind)}" for name, kind in graph.inputs.items()]
    lines += [node_text(replace(node, path=None, source=None, origin="")) for node in graph.nodes]
    return "\n".join([*lines, *(f"return {name} = {value_text(value)}" for name, value in graph.outputs.items())])


def shared_starts(graph: Graph) -> str:
    """The collectives that the ranks of a pipeline start together, in order, though their graphs differ."""
    starts = (node for node in graph.nodes if is_start(node) and axis_of(node) != "dp")
    return "\n".join(f"{operator_name(n.target)} {n.args[1:]} {type_text(n.type)}" for n in starts)


def compile_graph(
    graph: Graph, place: Place, backend: Backend = "step", name: str = "step", spans: bool = False
) -> CompiledGraph:
    """Makes a graph ready to run on this rank; all ranks call it, and all of them wait for the slowest.

    Args:
        graph: this rank's.
        place: where it runs.
        backend: `"step"` compiles, `"interpret"` runs operator by operator.
        name: tells it from other graphs of a step.
        spans: whether what it does shows as spans of a profiler.

    Returns:
        A function from inputs by name to outputs by name.

    Raises:
        MeshError: the ranks' graphs differ.
        CompileError: torch cannot compile it, on this rank or on another.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> made = make_fx(lambda x: (x.sin() + 1,), tracing_mode="fake")(torch.ones(2))
        >>> graph = from_fx(made.graph, ["batch.x"], ["aux.y"])
        >>> compile_graph(graph, Place.of(None), "interpret")({"batch.x": torch.zeros(2)})
        {'aux.y': tensor([1., 1.])}
    """
    if backend not in ("step", "interpret"):
        raise FunpipeError(f"there is no backend {backend!r} for graphs; use 'step' or 'interpret'.")
    if place.transport is not None and place.mesh is not None:
        if place.is_stage:
            require_same_graphs(f"{name}\n{shared_starts(graph)}", False, place.transport, place.mesh)
        require_same_graphs(f"{name}\n{digest_text(graph)}", place.is_stage, place.transport, place.mesh)
    return together(place, lambda: _made(graph, place, backend, name, spans))


def together(place: Place, make: Callable[[], T]) -> T:
    """What a function gives, once all ranks have it; where one of them fails, all do.

    Args:
        place: this rank's.
        make: communicates nothing.

    Raises:
        CompileError: another rank failed.
    """
    try:
        made = make()
    except Exception as error:
        require_compiled(place.transport, place.mesh, error)
        raise
    except BaseException as error:  # interrupted: the others wait, and must not meet this rank later
        if place.transport is not None:
            place.transport.give_up(error)
        raise
    require_compiled(place.transport, place.mesh)
    return made


def _made(graph: Graph, place: Place, backend: Backend, name: str, spans: bool) -> CompiledGraph:
    if backend == "interpret":
        return CompiledGraph(graph, place, _Interpreter(graph, spans), graph.as_text, name)
    progress = Progress(dist.get_rank() if place.mesh is not None else 0)
    try:
        with no_collecting(), on(place.device):
            made = graph_step(graph, progress, spans)
    finally:
        progress.end()
    return CompiledGraph(graph, place, made, made.as_text, name)


@dataclass(frozen=True, eq=False)
class _Interpreter:
    """Runs a graph operator by operator."""

    graph: Graph
    spans: bool

    def __call__(self, communicator: Communicator, inputs: list[Tensor]) -> Sequence[Any]:
        watch = (lambda node: span(label_of_node(node))) if self.spans else None
        with communicating(communicator):
            values = dict(zip(self.graph.inputs, inputs, strict=True))
            return list(interpret(self.graph, values, watch).values())
