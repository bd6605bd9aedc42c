from funpipe.graphs import Ref
from funpipe.passes import hoist_starts
from tests.passes.communication.steps import Step, aten, names, require_same


def backward() -> Step:
    """Two gradients, one after the other."""
    step = Step()
    step.leaf("x", 4, 4)
    step.mm("g2", "x", "x")
    step.mm("g1", "g2", "x")
    return step


def test_a_start_moves_behind_its_input():
    step = backward()
    for i in (2, 1):
        step.reduce(f"p{i}", f"g{i}")
    for i in (2, 1):
        step.wait(f"w{i}", f"p{i}")
    graph = step.graph(["w2", "w1"])
    made = hoist_starts()(graph)
    assert names(made) == "g2 p2 g1 p1 w2 w1"
    require_same(graph, made)


def test_the_order_of_a_channel_is_kept():
    """g2 is there first, and goes behind g1 all the same: other ranks were told so."""
    step = backward()
    for i in (1, 2):
        step.reduce(f"p{i}", f"g{i}")
    for i in (1, 2):
        step.wait(f"w{i}", f"p{i}")
    assert names(hoist_starts()(step.graph(["w1", "w2"]))) == "g2 g1 p1 p2 w1 w2"


def test_other_axes_have_an_order_of_their_own():
    step = backward()
    step.reduced("1", "g1", axis="pp")
    step.reduced("2", "g2", axis="dp")
    assert names(hoist_starts()(step.graph(["w1", "w2"]))) == "g2 p2 g1 p1 w1 w2"


def test_what_only_starts_need_moves_with_them():
    """A mean divides behind the backward, where the step calls it."""
    step = backward()
    for i in (2, 1):
        step.add(aten.div.Tensor, Ref(f"g{i}"), 2, named=f"d{i}")
        step.op(f"v{i}", aten.t.default, f"d{i}")
    for i in (2, 1):
        step.reduce(f"p{i}", f"v{i}")
    for i in (2, 1):
        step.wait(f"w{i}", f"p{i}")
    graph = step.graph(["w2", "w1"])
    made = hoist_starts()(graph)
    assert names(made) == "g2 d2 v2 p2 g1 d1 v1 p1 w2 w1"
    require_same(graph, made)


def test_work_that_others_need_too_stays():
    step = backward()
    step.neg("n", "g2")
    step.reduced("2", "n")
    step.neg("other", "n")
    assert names(hoist_starts()(step.graph(["w2", "other", "g1"]))) == "g2 g1 n p2 w2 other"
