import torch

from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Ref, check
from funpipe.passes import dedupe
from tests.passes.communication.steps import Step, aten, names, require_same


def deduped(step: Step, *outputs: str) -> Graph:
    """What the pass makes of a step; it gives the same bits."""
    graph = step.graph(outputs)
    made = dedupe()(graph)
    check(made)
    require_same(graph, made)
    return made


def test_the_same_collective_of_the_same_value_is_done_once():
    step = Step()
    step.leaf("x", 4)
    for name in ("0", "1", "2"):
        step.reduced(name, "x")
    step.op("u", aten.add.Tensor, "w1", "w2")
    made = deduped(step, "w0", "u", "w2")
    assert names(made) == "p0 w0 u"
    assert made.node("u").reads == ("w0",)
    assert [value.name for value in made.outputs.values()] == ["w0", "u", "w0"]


def test_the_first_stays_where_it_is():
    step = Step()
    for name in ("x", "y"):
        step.leaf(name, 4)
    step.reduce("px", "x")
    step.reduce("py", "y")
    step.reduce("px2", "x")
    for started in ("px2", "py", "px"):
        step.wait(f"w.{started}", started)
    made = deduped(step, "w.px", "w.py", "w.px2")
    assert names(made) == "px py w.px2 w.py"


def test_equal_computations_of_equal_values_count_as_one_value():
    """They were traced twice; the second is dead once its collective is gone."""
    step = Step()
    step.leaf("x", 4)
    for name in ("0", "1"):
        step.neg(f"a{name}", "x")
        step.neg(f"b{name}", f"a{name}")
        step.reduced(name, f"b{name}")
    assert names(deduped(step, "w0", "w1")) == "a0 b0 p0 w0"


def test_other_arguments_are_other_collectives():
    step = Step()
    step.leaf("x", 4)
    step.reduced("0", "x")
    step.reduced("1", "x", axis="pp")
    step.reduced("2", "x", reduce="max")
    step.gather("p3", "x")
    step.wait("w3", "p3")
    graph = step.graph(["w0", "w1", "w2", "w3"])
    assert names(dedupe()(graph)) == names(graph)


def test_numbers_are_told_apart_by_type_and_sign():
    step = Step()
    step.leaf("x", 4)
    for name, number in (("a", 1), ("b", 1.0), ("c", 0.0), ("d", -0.0)):
        step.add(aten.mul.Tensor, Ref("x"), number, named=name)
        step.reduced(name, name)
    assert len(deduped(step, "wa", "wb", "wc", "wd").nodes) == 12


def test_random_operators_are_never_equal():
    step = Step()
    step.leaf("x", 4)
    for name in ("0", "1"):
        step.op(f"r{name}", aten.bernoulli.default, "x")
        step.reduced(name, f"r{name}")
    assert names(dedupe()(step.graph(["w0", "w1"]))) == "r0 p0 w0 r1 p1 w1"


def test_dead_collectives_are_gone():
    step = Step()
    step.leaf("x", 4)
    step.reduced("0", "x")
    step.neg("y", "x")
    step.reduced("1", "y")
    assert names(deduped(step, "w0")) == "p0 w0"


def test_in_a_pipeline_other_ranks_may_still_take_part():
    """On another rank the two need not be equal, nor dead: along "pp" and "world" nothing goes."""
    step = Step()
    step.leaf("x", 4)
    step.add(OPERATORS.post_recv.default, 0, named="post")
    for axis in ("dp", "pp", "world"):
        step.reduced(f".{axis}0", "x", axis=axis)
        step.reduced(f".{axis}1", "x", axis=axis)
    kept = "post p.dp0 w.dp0 p.pp0 w.pp0 p.pp1 w.pp1 p.world0 w.world0 p.world1 w.world1"
    assert names(dedupe()(step.graph(["w.dp0", "w.dp1"]))) == kept


def test_what_the_next_step_waits_for_is_its_own():
    """A start is waited for once: in this step or in the next."""
    step = Step()
    step.leaf("x", 4)
    step.reduced("0", "x")
    step.reduce("p1", "x")
    assert names(dedupe()(step.graph(["w0", "p1"]))) == "p0 w0 p1"
    assert names(dedupe()(step.graph(["p1", "w0"]))) == "p0 w0 p1"


def test_two_waits_for_what_an_earlier_step_started_are_one():
    step = Step()
    step.leaf("carry.p", 4)
    for name in ("a", "b"):
        step.wait(name, "carry.p")
    assert names(dedupe()(step.graph(["a", "b"]))) == "a"


def test_messages_are_never_equal():
    step = Step()
    step.leaf("x", 4)
    for name in ("0", "1"):
        args = (0, [4], [1], torch.float32, torch.device("cpu"))
        step.add(OPERATORS.wait_recv.default, *args, named=f"r{name}")
        step.reduced(name, f"r{name}")
    assert names(dedupe()(step.graph(["w0", "w1"]))) == "r0 p0 w0 r1 p1 w1"


def test_where_values_are_overwritten_nothing_is_equal():
    step = Step()
    step.leaf("x", 4)
    step.reduced("0", "x")
    step.add(aten.add_.Tensor, Ref("x"), 1, named="write")
    step.reduced("1", "x")
    graph = step.graph(["w0", "w1"])
    assert names(dedupe()(graph)) == names(graph)
