"""What a graph closes over is an input of what is compiled."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._typing import TensorType
from funpipe.backends import link
from funpipe.backends.constants import lifted
from funpipe.backends.emit import Graph
from funpipe.backends.inductor import Built, Source

X, WEIGHTS = torch.randn(4, 4), [torch.randn(4, 4) for _ in range(4)]


def layers_with(number):
    """Four layers, each of which makes a tensor of a number while it is traced."""

    def run(x, *weights):
        for weight in weights:
            x = torch.tanh(x @ weight) * torch.tensor([number, 1, 2, 3])
        return (x,)

    module = make_fx(run, tracing_mode="fake")(X, *WEIGHTS)
    return Graph(module, tuple(TensorType.of(t) for t in (X, *WEIGHTS)))


def test_a_graph_that_closes_over_nothing_stays_as_it_is():
    graph = Graph(make_fx(torch.sin, tracing_mode="fake")(X), (TensorType.of(X),))
    assert lifted(graph) == (graph, ())


def test_constants_are_inputs_behind_the_others():
    graph = layers_with(0.5)
    made, constants = lifted(graph)
    assert len(constants) == 4 and made.types == (*graph.types, *(TensorType.of(c) for c in constants))
    assert torch.equal(made.module(X, *WEIGHTS, *constants)[0], graph.module(X, *WEIGHTS)[0])


def test_graphs_that_differ_in_a_constant_share_their_code_and_not_the_constant(monkeypatch):
    """Their code was once the same and took the constant from nowhere."""
    asked = []

    def build(sources, report):
        asked.extend(sources)
        return [Built(link.one_by_one(source.module), "") for source in sources]

    monkeypatch.setattr(link, "build", build)
    graphs = {"block0": layers_with(0.5), "block1": layers_with(0.25)}
    linked = link.link(graphs, lambda *_: None)
    keys = [Source(s.name, s.module, s.types).key for s in asked]
    assert len(keys) > 4 and keys[: len(keys) // 2] == keys[len(keys) // 2 :]
    for name, graph in graphs.items():
        given = [X, *WEIGHTS]
        assert torch.equal(linked.functions[name](given)[0], graph.module(X, *WEIGHTS)[0])
