"""A communicator that writes down what it is asked, and steps whose segments are not compiled."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from funpipe.backends.graph_source import Written, write
from funpipe.backends.link import function_of
from funpipe.functional.communication import communicating
from funpipe.functional.objects import knowing
from funpipe.graphs import Graph, interpret
from tests.backends.uncompiled import emptying


class Scribe:
    """Every collective doubles what it is given; results are filled when they are waited for, from what is there then.

    Args:
        graph: whose messages and sizes it knows.
    """

    def __init__(self, graph: Graph) -> None:
        self.said: list[str] = []
        self.open: dict[int, tuple[Tensor, Tensor, Any]] = {}
        self.sent: dict[int, Tensor] = {}
        self.types = {n.args[0]: n.type for n in graph.nodes if "wait_recv" in str(n.target)}
        self.sizes = {n.args[-2]: n.args[-1] for n in graph.nodes if str(n.target).count("gather") and n.args}
        self.sizes |= {n.args[2]: n.args[3] for n in graph.nodes if "reduce_scatter" in str(n.target)}

    def all_reduce(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        return self._start(f"all_reduce {reduce} {axis}", x, torch.empty_like(x), lambda x: x + x)

    def all_reduce_coalesced(self, xs: Sequence[Tensor], reduce: str, axis: str) -> list[Tensor]:
        return [self.all_reduce(x, reduce, axis) for x in xs]

    def all_gather(self, x: Tensor, axis: str) -> Tensor:
        size = self.sizes[axis]
        empty = torch.empty((size * x.shape[0], *x.shape[1:]), dtype=x.dtype)
        return self._start(f"all_gather {axis}", x, empty, lambda x: torch.cat([x] * size))

    def reduce_scatter(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        rows = x.shape[0] // self.sizes[axis]
        return self._start(f"reduce_scatter {reduce} {axis}", x, torch.empty_like(x[:rows]), lambda x: x[:rows] * 2)

    def _start(self, said: str, x: Tensor, empty: Tensor, value: Any) -> Tensor:
        self.said.append(said)
        started = empty.fill_(77).contiguous()
        self.open[id(started)] = (started, x, value)
        return started

    def wait(self, x: Tensor) -> Tensor:
        self.said.append("wait")
        started, given, value = self.open.pop(id(x))
        return started.copy_(value(given))

    def send(self, x: Tensor, message: int) -> None:
        self.said.append(f"send {message}")
        self.sent[message] = x.clone()

    def wait_send(self, x: Tensor, message: int) -> None:
        self.said.append(f"wait_send {message}")
        assert torch.equal(self.sent[message], x)

    def post_recv(self, message: int) -> None:
        self.said.append(f"post_recv {message}")

    def wait_recv(self, message: int) -> Tensor:
        self.said.append(f"wait_recv {message}")
        kind = self.types[message]
        return torch.full(kind.shape, float(message), dtype=kind.dtype).as_strided(kind.shape, kind.stride)


def interpreted(graph: Graph, inputs: dict[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
    """What a graph means, and what it says to the others."""
    scribe = Scribe(graph)
    with communicating(scribe):
        return interpret(graph, {n: t.clone() for n, t in inputs.items()}), scribe.said


def sourced(graph: Graph, inputs: dict[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
    """What the source of a graph gives, its segments operator by operator, and what it says to the others."""
    scribe, written = Scribe(graph), write(graph)
    with torch.no_grad(), knowing(graph.objects):
        found = uncompiled(written)(scribe, [t.clone() for t in inputs.values()])
    return dict(zip(graph.outputs, found, strict=True)), scribe.said


def uncompiled(written: Written) -> Any:
    """The function of a source, its segments operator by operator."""
    parts = {name: emptying(name, part) for name, part in written.parts.items()}
    return function_of(written.source, "step", {"ops": SimpleNamespace(**written.ops), **parts})
