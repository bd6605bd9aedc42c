import operator

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from funpipe._errors import PassError
from funpipe.graphs import Graph, Ref
from funpipe.passes import RooflineStep, exposed, schedule, sink_waits
from funpipe.passes.communication.cost_model import collective_bytes, flops_of, nbytes
from tests.passes.communication.steps import Step, aten


def products() -> Graph:
    """Operators whose operations torch counts, and some that it does not."""
    step = Step()
    for name, shape in (("x", (8, 16)), ("w", (16, 4)), ("b", (4,)), ("q", (2, 3, 5, 8)), ("i", (2, 3, 8, 8))):
        step.leaf(name, *shape)
    step.leaf("k", 4, 3, 3, 3)
    step.mm("mm", "x", "w")
    step.op("addmm", aten.addmm.default, "b", "x", "w")
    step.op("exp", aten.exp.default, "x")
    args = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    step.add(aten.convolution.default, Ref("i"), Ref("k"), *args, named="conv")
    step.op("attention", aten._scaled_dot_product_flash_attention_for_cpu.default, "q", "q", "q")
    step.op("t", aten.t.default, "x")
    step.add(operator.getitem, Ref("attention"), 0, named="part")
    return step.graph(["mm"])


@pytest.mark.parametrize("name", ["mm", "addmm", "conv"])
def test_operations_are_those_that_torch_counts(name):
    graph = products()
    node = graph.node(name)
    given = [torch.ones(graph.type_of(a.name).shape) if isinstance(a, Ref) else a for a in node.args]
    with FlopCounterMode(display=False) as counter:
        node.target(*given)
    assert flops_of(graph, node) == counter.get_total_flops() > 0


def test_attention_counts_its_two_products_and_the_rest_elements():
    graph = products()
    assert flops_of(graph, graph.node("attention")) == 2 * (2 * 2 * 3 * 5 * 5 * 8)
    assert flops_of(graph, graph.node("exp")) == 8 * 16


def test_a_node_takes_the_larger_of_arithmetic_and_traffic():
    graph = products()
    slow = RooflineStep(flops=1.0, bandwidth=1e9, overhead=0.0)
    assert slow.node(graph, graph.node("mm")) == 2 * 8 * 16 * 4
    narrow = RooflineStep(flops=1e12, bandwidth=1.0, overhead=0.5)
    assert narrow.node(graph, graph.node("exp")) == 0.5 + 2 * 4 * 8 * 16


def test_views_parts_and_communication_are_free():
    graph = products()
    assert RooflineStep(bandwidth=1.0).node(graph, graph.node("t")) == 0.0
    assert RooflineStep(bandwidth=1.0).node(graph, graph.node("part")) == 0.0


def test_a_collective_has_a_latency_and_a_bandwidth():
    assert RooflineStep(link=100.0, latency=2.0).collective(1000, "dp") == 12.0


def test_bytes_of_a_collective_are_of_its_larger_side():
    step = Step()
    step.leaf("x", 4, 3, dtype=torch.float64)
    step.gather("g", "x")
    step.scatter("s", "x")
    step.reduce("r", "x")
    graph = step.graph([])
    assert [collective_bytes(graph, node) for node in graph.nodes] == [192, 96, 96]


def test_bytes_of_several_results_and_of_none():
    graph = products()
    assert nbytes(graph.node("attention").type) == sum(map(nbytes, graph.node("attention").type)) > 0
    assert nbytes(None) == 0


@pytest.mark.parametrize("use", [schedule, sink_waits, lambda costs: exposed(products(), costs)])
def test_what_has_no_times_is_no_costs(use):
    with pytest.raises(PassError, match=r"costs=3 are none: pass passes.RooflineStep\(link="):
        use(3)
