"""What a stage holds, and what it could hold."""

import torch
from torch import fx

from funpipe._typing import TensorType
from funpipe.stages import Budget, Region, Roofline, Stage, partition, rematerialise, saved_bytes
from funpipe.stages.saved import nodes_of, values_of
from funpipe.tracing import trace
from tests.programs import models as marked
from tests.stages.recomputed import computed_again

X = torch.linspace(0, 1, 12).view(4, 3)


def test_costs_decide():
    """Of two values of equal size the one that is cheaper by the given costs is computed again."""

    class Named:
        def __init__(self, dear):
            self.dear = dear

        def node(self, node):
            return 2.0 if node.name == self.dear else 1.0

        def transfer(self, nbytes):
            return 0.0

    def loss(p, x):
        return (torch.sin(p["a"] * x[0]) * torch.cos(p["a"] * x[1])).sum()

    stages = partition(trace(loss, {"a": torch.ones(3)}, X), ())
    for dear, cheap in (("sin", "cos"), ("cos", "sin")):
        (stage,) = rematerialise(stages, Budget(36, Named(dear)))
        assert dear not in computed_again(stage) and cheap in computed_again(stage)


def test_what_is_there_anyway_does_not_count():
    """The product of leaves reads a parameter and the batch; the loss, whose shape is read, waits for the end."""
    (stage,) = partition(trace(lambda p, x: (p["a"] * x[0]).sum(), {"a": torch.ones(3)}, X), ())
    assert {"batch.", "sum_1"} <= set(stage.B.inputs)
    assert saved_bytes(stage) == 0


def test_a_received_value_counts_where_the_backward_reads_it():
    loss = lambda p, x: (torch.tanh(x @ p["a"]) @ p["b"]).sum()  # noqa: E731
    traced = trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, X)
    assert [saved_bytes(s) for s in partition(traced, (2,))] == [48, 48]


def test_versions_of_buffers_count_where_they_are_updated():
    traced = marked.traced_of(marked.normalized)
    (stage,) = rematerialise(partition(traced, ()), "full")
    versions = {n for n in stage.B.inputs if n.startswith("buffer.")}
    assert versions and versions <= set(stage.results)
    assert saved_bytes(stage) == sum(stage.F.types[n].nbytes for n in versions)


def test_what_an_operator_drew_or_wrote_is_not_computed_again():
    stage = by_hand(torch.ops.aten.bernoulli.default)
    values, nodes = values_of(stage, Roofline()), nodes_of(stage)
    assert [nodes[i].name for i in values.none_saved.saved] == ["drawn"]
    (full,) = rematerialise((stage,), "full")
    assert full.F.outputs == ("drawn",) and computed_again(full) == ["sin"]


def by_hand(operator):
    """A forward that runs an operator and takes the sine of it; its backward reads both."""

    def region(kind, inputs, outputs, operations):
        graph, values = fx.Graph(), {}
        for name in inputs:
            values[name] = graph.placeholder(name.replace(".", "_"))
        for name, (target, *reads) in operations.items():
            values[name] = graph.create_node("call_function", target, tuple(values[r] for r in reads), {}, name)
        for node in values.values():
            node.meta["val"] = torch.ones(3)
        graph.output(tuple(values[o] for o in outputs))
        types = dict.fromkeys([*inputs, *outputs], TensorType.of(torch.ones(3)))
        return Region(kind, 0, fx.GraphModule({}, graph), inputs, outputs, types)

    aten = torch.ops.aten
    forward = {"drawn": (operator, "param.a"), "sin": (aten.sin.default, "drawn")}
    F = region("F", ("param.a",), ("drawn", "sin"), forward)
    B = region("B", ("drawn", "sin"), ("mul",), {"mul": (aten.mul.Tensor, "drawn", "sin")})
    return Stage(0, F, B, ("a",), ("a",), {}, {"a": ((0, "mul"),)})
