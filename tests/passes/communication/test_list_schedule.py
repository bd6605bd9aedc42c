from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import PassError
from funpipe.graphs import Graph
from funpipe.graphs.communication import channels
from funpipe.passes import exposed, peak_bytes, schedule, timeline
from tests.passes.communication.costs import Drawn, Unit
from tests.passes.communication.steps import Step, applied, aten, names, require_same
from tests.passes.random_graphs import random_graph, random_pipeline


def backward(layers: int) -> Graph:
    """A chain of gradients of activations, one product a layer, and beside it a gradient of each weight, then sums."""
    step = Step()
    step.leaf("x", 4, 4)
    for i in range(layers):
        step.mm(f"h{i}", "x", "x" if i == 0 else f"h{i - 1}")
    for i in range(layers):
        step.mm(f"g{i}", "x", f"h{i}")
    for i in range(layers):
        step.reduce(f"p{i}", f"g{i}")
    for i in range(layers):
        step.wait(f"w{i}", f"p{i}")
        step.op(f"u{i}", aten.sub.Tensor, "x", f"w{i}")
    return step.graph([f"u{i}" for i in range(layers)])


def test_transfers_hide_behind_the_products():
    """Eight products; four transfers of a second each begin when the first weight's gradient is there, after two."""
    graph = backward(4)
    made = schedule(Unit(1.0), growth=1.0)(graph)
    assert exposed(graph, Unit(1.0)) == 4.0
    assert exposed(made, Unit(1.0)) == 1.0, "the last transfer has nothing left to hide behind"
    assert timeline(made, Unit(1.0)).seconds == 9.0
    require_same(graph, made)


def test_a_long_transfer_goes_first():
    """The weight's gradient that is sent for three seconds is made before products that nothing waits for."""
    step = Step()
    step.leaf("x", 4, 4)
    for i in range(3):
        step.mm(f"m{i}", "x", "x")
    step.mm("g", "x", "x")
    step.reduced("", "g")
    step.mm("u", "x", "w")
    graph = step.graph(["m0", "m1", "m2", "u"])
    made = schedule(Unit(3.0), growth=1.0)(graph)
    assert names(made) == "g p m0 m1 m2 w u"
    assert exposed(made, Unit(3.0)) == 0.0
    assert exposed(graph, Unit(3.0)) == 3.0


def test_memory_may_grow_by_so_much():
    graph = backward(6)
    for growth in (0.0, 0.2, 1.0):
        made = applied(schedule(Unit(1.0), growth), graph)
        assert peak_bytes(made) <= (1 + growth) * peak_bytes(graph)


def test_the_order_of_a_channel_is_kept():
    step = Step()
    step.leaf("x", 4, 4)
    step.mm("g1", "x", "x")
    step.mm("g2", "g1", "x")
    for i in (2, 1):
        step.reduced(f"{i}", f"g{i}")
    made = schedule(Unit(1.0), growth=1.0)(step.graph(["w1", "w2"]))
    assert channels(made) == {"dp": ("p2", "p1")}


def test_in_a_pipeline_computation_keeps_its_order():
    first, _ = random_pipeline(Random(3), 60)
    made = applied(schedule(Drawn(), growth=9.0), first)
    moving = ("wait_tensor", "all_", "reduce_")

    def others(graph: Graph) -> list[str]:
        return [node.name for node in graph.nodes if not node.name.startswith((*moving, "t_", "neg", "mul"))]

    assert others(made) == others(first)


def test_without_communication_nothing_is_lost():
    step = Step()
    step.leaf("x", 4, 4)
    step.mm("m", "x", "x")
    assert names(schedule()(step.graph(["m"]))) == "m"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 9.0]))
def test_it_is_never_predicted_slower(seed, growth):
    graph = random_graph(Random(seed), 50)
    made = applied(schedule(Drawn(), growth), graph)
    assert timeline(made, Drawn()).seconds <= timeline(graph, Drawn()).seconds
    assert exposed(made, Drawn()) <= exposed(graph, Drawn()) + 1e-9
    assert peak_bytes(made) <= (1 + growth) * peak_bytes(graph)
    assert channels(made) == channels(graph)


def test_every_node_is_there_once():
    graph = random_graph(Random(1), 80)
    made = schedule(Drawn(), growth=9.0).fn(graph)
    assert sorted(names(made).split()) == sorted(names(graph).split())


def test_the_user_is_told_what_is_wrong():
    with pytest.raises(PassError, match="growth=-0.1 asks for less memory than the given order takes: pass 0 or more"):
        schedule(growth=-0.1)


def test_costs_are_asked_for_each_node_once():
    asked: list[str] = []

    class Counting(Unit):
        def node(self, graph, node):
            asked.append(node.name)
            return super().node(graph, node)

    schedule(Counting(1.0)).fn(replace(backward(3), applied=()))
    assert len(asked) == len(set(asked)) == 9
