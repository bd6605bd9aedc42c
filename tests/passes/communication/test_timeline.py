import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeTypeError
from funpipe.graphs import Graph
from funpipe.passes import exposed, hoist_starts, peak_bytes, sink_waits, timeline
from tests.passes.communication.costs import Unit
from tests.passes.communication.steps import Step, aten


def two_sums(axes: tuple[str, str] = ("dp", "dp")) -> Graph:
    """Two starts, a product, two waits and their readers."""
    step = Step()
    step.leaf("x", 4, 4)
    for i, axis in enumerate(axes):
        step.reduce(f"p{i}", "x", axis=axis)
    step.mm("m", "x", "x")
    for i in range(2):
        step.wait(f"w{i}", f"p{i}")
        step.op(f"u{i}", aten.mm.default, "m", f"w{i}")
    return step.graph(["u0", "u1"])


def test_transfers_of_an_axis_run_one_after_the_other():
    """Transfers 0-3 and 3-6; the product takes 0-1, u0 3-4, u1 6-7."""
    run = timeline(two_sums(), Unit(3.0))
    assert run.transfers == {"p0": (0.0, 3.0), "p1": (3.0, 6.0)}
    assert run.waited == {"w0": 2.0, "w1": 2.0}
    assert (run.seconds, run.exposed, run.communication) == (7.0, 4.0, 6.0)


def test_axes_do_not_share_a_link():
    run = timeline(two_sums(("dp", "pp")), Unit(3.0))
    assert run.transfers == {"p0": (0.0, 3.0), "p1": (0.0, 3.0)}
    assert (run.seconds, run.exposed) == (5.0, 2.0)


def test_a_hidden_transfer_costs_nothing():
    assert exposed(two_sums(), Unit(0.5)) == 0.0
    assert timeline(two_sums(), Unit(0.5)).seconds == 3.0


def test_what_an_earlier_step_started_is_there():
    step = Step()
    step.leaf("carry.p", 4)
    step.wait("w", "carry.p")
    assert exposed(step.graph(["w"]), Unit(3.0)) == 0.0


def test_an_empty_step():
    run = timeline(Graph({}, (), {}))
    assert (run.seconds, run.exposed, run.communication, run.first_at(0.0)) == (0.0, 0.0, 0.0, None)


def test_the_first_node_at_whose_end_a_time_is_reached():
    run = timeline(two_sums(), Unit(3.0))
    assert [run.first_at(t) for t in (0.0, 0.5, 1.0, 2.0, 6.5, 7.5)] == ["p0", "m", "m", "w0", "u1", None]


def test_the_text_says_where_the_rank_stands_still():
    assert timeline(two_sums(), Unit(0.003)).as_text().splitlines() == [
        "step 3000.000 ms, exposed 0.000 ms",
        "p0  0.000 - 3.000 ms, exposed 0.000 ms",
        "p1  3.000 - 6.000 ms, exposed 0.000 ms",
    ]
    assert timeline(two_sums(), Unit(3.0)).as_text().endswith("p1  3000.000 - 6000.000 ms, exposed 2000.000 ms")


@pytest.mark.parametrize("transfer", [0.1, 1.0, 10.0])
def test_starts_up_and_waits_down_expose_no_more(transfer):
    step = Step()
    step.leaf("x", 4, 4)
    for i in range(4):
        step.mm(f"g{i}", "x", "x" if i == 0 else f"g{i - 1}")
    for i in range(4):
        step.reduced(f"{i}", f"g{i}")
    graph = step.graph([f"w{i}" for i in range(4)])
    up = hoist_starts()(graph)
    assert exposed(sink_waits()(up), Unit(transfer)) <= exposed(up, Unit(transfer)) <= exposed(graph, Unit(transfer))


@pytest.mark.parametrize("measure", [timeline, exposed, peak_bytes])
def test_a_step_is_not_its_graph(measure):
    step = fp.trace_step(lambda w, x: (w + x, {}), torch.ones(2), torch.ones(2))
    with pytest.raises(FunpipeTypeError, match=r"takes a graph, and was given a Step: pass .* step\.graph\."):
        measure(step)
