"""The `step` backend for graphs: a whole step as one function of compiled segments and direct calls."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from funpipe.backends.called import called
from funpipe.backends.compiled import Report, silent
from funpipe.backends.compiled_text import series
from funpipe.backends.graph_order import check_order
from funpipe.backends.graph_source import Written, write
from funpipe.backends.inductor import Boxed
from funpipe.backends.kept_memory import keep_freed_memory
from funpipe.backends.link import Linked, function_of, link
from funpipe.backends.spans import SpannedCommunicator, label_of, spanned
from funpipe.functional.communication import Communicator
from funpipe.functional.objects import knowing
from funpipe.graphs.graph import Graph
from funpipe.optim.update_op import UPDATE
from funpipe.passes.optimizer.expand import expand_updates


class GraphStep:
    """A compiled graph.

    Args:
        graph: what it runs, as it was compiled.
        written: its source.
        linked: the compiled segments.
        spans: whether segments and communication are spans of a profiler.
    """

    def __init__(self, graph: Graph, written: Written, linked: Linked, spans: bool = False) -> None:
        self.graph, self.written, self.linked, self.spans = graph, written, linked, spans
        functions = _spanned(written, linked) if spans else linked.functions
        names: dict[str, Any] = {"ops": SimpleNamespace(**written.ops), **functions}
        self.function: Callable[..., Any] = function_of(written.source, "step", names)

    @torch.no_grad()
    def __call__(self, communicator: Communicator, inputs: list[Tensor]) -> Sequence[Any]:
        """Runs the step.

        Args:
            communicator: to the other ranks.
            inputs: in the graph's order; the list is emptied, and what the graph overwrites is overwritten.

        Returns:
            The outputs, in the graph's order.
        """
        with knowing(self.graph.objects):
            return self.function(SpannedCommunicator(communicator) if self.spans else communicator, inputs)

    def as_text(self) -> str:
        """The compiled segments with their kernels, and the source that calls them."""
        code = {name: tuple(piece.code for piece in pieces) for name, pieces in self.linked.pieces.items()}
        names = {text: f"piece{i}" for i, text in enumerate(dict.fromkeys(t for texts in code.values() for t in texts))}
        parts = [f"  {n:<10} {series(names[t] for t in texts) or 'operators, one by one'}" for n, texts in code.items()]
        pieces = [f"  {name:<10} {series(called(text)) or 'nothing'}" for text, name in names.items()]
        return "\n\n".join(["\n".join(["segments", *parts]), "\n".join(["pieces", *pieces]), self.written.source])


def _spanned(written: Written, linked: Linked) -> dict[str, Boxed]:
    """The compiled segments, each in a span that says what it is."""
    parts = written.parts
    return {name: spanned(label_of(parts[name].module.graph), call) for name, call in linked.functions.items()}


def graph_step(graph: Graph, report: Report = silent, spans: bool = False) -> GraphStep:
    """Compiles a graph ahead of time; nothing is communicated.

    Args:
        graph: of one rank.
        report: is told before each piece that is compiled.
        spans: whether segments and communication are spans of a profiler.

    Returns:
        The compiled step.

    Raises:
        CompileError: torch cannot compile a piece, or the source communicates in another order than the graph.

    Example:
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> from funpipe.runtime.communicator import TransportCommunicator
        >>> made = make_fx(lambda x: (x.sin() + 1,), tracing_mode="fake")(torch.ones(2))
        >>> graph_step(from_fx(made.graph))(TransportCommunicator(), [torch.zeros(2)])
        (tensor([1., 1.]),)
    """
    if all(kind.device == "cpu" for kind in graph.inputs.values()):
        keep_freed_memory()
    spelled = _with_updates(graph)
    written = write(spelled)
    check_order(spelled, written.source, written.variables)
    return GraphStep(graph, written, link(written.parts, report), spans)


def _with_updates(graph: Graph) -> Graph:
    """The graph with the operators of its updates, unless a pass has fused them."""
    if all(node.target is not UPDATE for node in graph.nodes):
        return graph
    return expand_updates().fn(graph)
