from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Ref
from funpipe.passes import bucket, sink_waits
from tests.passes.communication.costs import Unit
from tests.passes.communication.steps import Step, aten, names, require_same


def eager(products: int = 4) -> Graph:
    """A sum that is waited for at once, products, and a reader at the end."""
    step = Step()
    step.leaf("x", 4, 4)
    step.reduced("", "x")
    for i in range(products):
        step.mm(f"m{i}", "x", "x" if i == 0 else f"m{i - 1}")
    step.op("u", aten.add.Tensor, "x", "w")
    return step.graph(["u", f"m{products - 1}"])


def test_a_wait_moves_in_front_of_its_reader():
    made = sink_waits()(eager())
    assert names(made) == "p m0 m1 m2 m3 w u"
    require_same(eager(), made)


def test_views_of_the_result_move_with_it():
    step = Step()
    step.leaf("x", 4, 4)
    for i in range(2):
        step.reduced(f"{i}", "x" if i == 0 else "y")
        step.add(aten.div.Tensor, Ref(f"w{i}"), 2, named=f"d{i}")
        if i == 0:
            step.mm("y", "x", "x")
    step.mm("m", "x", "x")
    step.op("u0", aten.add.Tensor, "x", "d0")
    step.op("u1", aten.add.Tensor, "x", "d1")
    assert names(sink_waits()(step.graph(["u0", "u1", "m"]))) == "p0 y p1 m w0 d0 u0 w1 d1 u1"


def test_a_bucket_is_taken_apart_where_it_is_read():
    step = Step()
    for name in ("x", "y"):
        step.leaf(name, 4, 4)
        step.reduced(f"_{name}", name)
    step.mm("m", "x", "x")
    for name in ("x", "y"):
        step.op(f"u{name}", aten.add.Tensor, name, f"w_{name}")
    made = sink_waits()(bucket()(step.graph(["ux", "uy", "m"])))
    behind = "m bucket_wait bucket_parts w_x_part w_x ux w_y_part w_y uy"
    assert names(made) == f"p_x_rows p_y_rows bucket bucket_start {behind}"


def test_a_result_that_only_the_caller_reads_is_waited_for_at_the_end():
    step = Step()
    step.leaf("x", 4, 4)
    step.reduced("0", "x")
    step.reduced("1", "x", reduce="max")
    step.mm("m", "x", "x")
    assert names(sink_waits()(step.graph(["w0", "w1", "m"]))) == "p0 p1 m w0 w1"


def test_with_costs_a_wait_stands_where_its_transfer_is_over():
    """Behind that place it would only keep alive what was sent."""
    assert names(sink_waits(Unit(0.5))(eager())) == "p m0 w m1 m2 m3 u"
    assert names(sink_waits(Unit(2.0))(eager())) == "p m0 m1 w m2 m3 u"
    assert names(sink_waits(Unit(2.5))(eager())) == "p m0 m1 m2 w m3 u"
    assert names(sink_waits(Unit(9.0))(eager())) == "p m0 m1 m2 m3 w u"


def test_what_an_earlier_step_started_stays_with_its_reader():
    step = Step()
    step.leaf("carry.p", 4, 4)
    step.leaf("x", 4, 4)
    step.wait("w", "carry.p")
    step.mm("m", "x", "x")
    step.op("u", aten.add.Tensor, "x", "w")
    for costs in (None, Unit(1.0)):
        assert names(sink_waits(costs)(step.graph(["u", "m"]))) == "m w u"


def test_in_a_pipeline_waits_of_other_axes_stay_among_the_messages():
    step = Step()
    step.leaf("x", 4, 4)
    for axis in ("dp", "pp"):
        step.reduced(f".{axis}", "x", axis=axis)
    step.add(OPERATORS.post_recv.default, 0, named="post", readable=False)
    for axis in ("dp", "pp"):
        step.op(f"u.{axis}", aten.add.Tensor, "x", f"w.{axis}")
    assert names(sink_waits()(step.graph(["u.dp", "u.pp"]))) == "p.dp p.pp w.pp post w.dp u.dp u.pp"
