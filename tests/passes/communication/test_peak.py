from funpipe.graphs import Ref
from funpipe.passes import hoist_starts, peak_bytes
from tests.passes.communication.steps import Step, aten

SIZE = 4 * 4 * 4


def test_values_die_behind_their_last_reader():
    step = Step()
    step.leaf("x", 4, 4)
    for i in range(5):
        step.mm(f"m{i}", "x", "x" if i == 0 else f"m{i - 1}")
    assert peak_bytes(step.graph(["m4"])) == 2 * SIZE
    assert peak_bytes(step.graph([f"m{i}" for i in range(5)])) == 5 * SIZE


def test_a_view_keeps_its_base_and_takes_nothing():
    step = Step()
    step.leaf("x", 4, 4)
    step.mm("m", "x", "x")
    step.op("t", aten.t.default, "m")
    step.mm("n", "x", "x")
    step.op("u", aten.add.Tensor, "t", "n")
    assert peak_bytes(step.graph(["u"])) == 3 * SIZE


def test_a_view_of_an_input_takes_nothing():
    step = Step()
    step.leaf("x", 4, 4)
    step.op("t", aten.t.default, "x")
    assert peak_bytes(step.graph(["t"])) == 0


def test_what_is_sent_lives_until_its_wait():
    step = Step()
    step.leaf("x", 4, 4)
    step.mm("g", "x", "x")
    step.reduce("p", "g")
    step.mm("m", "x", "x")
    step.wait("w", "p")
    step.op("u", aten.add.Tensor, "w", "m")
    assert peak_bytes(step.graph(["u"])) == 3 * SIZE


def test_parts_of_several_results_are_one_piece_of_memory():
    step = Step()
    step.leaf("x", 4, 4)
    step.mm("m", "x", "x")
    step.add(aten.split.Tensor, Ref("m"), 2, named="parts")
    step.op("u", aten.neg.default, "m")
    assert peak_bytes(step.graph(["u", "parts"])) == 2 * SIZE


def test_early_starts_cost_memory():
    step = Step()
    step.leaf("x", 4, 4)
    for i in range(3):
        step.mm(f"m{i}", "x", "x")
    for i in range(3):
        step.reduced(f"{i}", f"m{i}")
    graph = step.graph([])
    assert peak_bytes(hoist_starts()(graph)) >= peak_bytes(graph)
