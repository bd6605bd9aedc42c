"""What the selectors choose."""

import pytest

import funpipe as fp
from funpipe._errors import FunpipeTypeError, RotateError
from funpipe._typing import MeshShape
from funpipe.graphs.communication import is_start, is_wait
from funpipe.passes import bucket
from funpipe.passes.rotation import closure_of, collectives, rotated, updates, waits
from funpipe.passes.rotation.selectors import chosen
from tests.passes.rotation.folds import LAYERS, mlp

STEP = mlp(fp.optim.sgd(0.1, momentum=0.9), MeshShape(1, 2))
GRAPH = STEP.graph


def kinds(names):
    """How many starts, waits and updates."""
    nodes = [GRAPH.node(name) for name in names]
    found = [sum(test(n) for n in nodes) for test in (is_start, is_wait)]
    return (*found, sum("funpipe_optim" in str(n.target) for n in nodes))


def test_waits_leave_the_start():
    assert kinds(waits(0)(GRAPH)) == (0, 1, 1)
    assert kinds(waits(0, 2)(GRAPH)) == (0, 2, 2)
    assert kinds((waits(0) | waits(1))(GRAPH)) == (0, 2, 1)


def test_collectives_take_the_start():
    assert kinds(collectives(0)(GRAPH)) == (1, 1, 1)
    assert collectives(-7)(GRAPH) == collectives(0)(GRAPH)
    assert kinds(collectives(*range(7))(GRAPH)) == (7, 7, 3)


def test_all_that_may_be_deferred():
    """The last collective is that of the loss, which is returned."""
    assert kinds(collectives()(GRAPH)) == (6, 6, 3)
    assert kinds(waits(axis="dp")(GRAPH)) == (0, 6, 3)


def test_where_nothing_may_be_deferred_all_are_chosen_so_that_the_error_names_the_reader():
    returned = {f"aux.{i}": GRAPH.outputs[f"state.params.w{i}"] for i in range(LAYERS)}
    graph = GRAPH.replace(outputs={**GRAPH.outputs, **returned})
    assert kinds(waits()(graph)) == (0, 7, 3)
    with pytest.raises(RotateError, match=r"the output 'aux\."):
        rotated(graph, waits())


def test_an_axis_is_numbered_by_itself():
    assert waits(3, axis="dp")(GRAPH) == waits(3)(GRAPH)
    assert waits(axis="pp")(GRAPH) == frozenset()


def test_parts_of_a_coalesced_collective():
    """Each part has a wait of its own; one start for the gradients, one for the loss."""
    graph = bucket(first_bytes=10**6, cap_bytes=10**6, mode="coalesced")(STEP).graph
    assert sum(is_start(node) for node in graph.nodes) == 2
    assert sum(is_wait(graph.node(name)) for name in waits()(graph)) == 6
    assert sum(is_wait(graph.node(name)) for name in collectives()(graph)) == 6


def test_updates_take_the_whole_operator():
    assert kinds(updates({"params.w1"})(GRAPH)) == (0, 0, 1)
    assert updates("params.w1")(GRAPH) == updates(["slots.momentum.b1"])(GRAPH)
    assert updates(lambda name: name.endswith("1"))(GRAPH) == updates(["params.w1"])(GRAPH)


def test_a_leaf_that_stays_has_no_update():
    graph = GRAPH.replace(outputs={**GRAPH.outputs, "state.step": fp.graphs.Ref("state.step")})
    assert updates(["step"])(graph) == frozenset()


def test_a_predicate_takes_no_more_than_it_says():
    assert chosen(GRAPH, is_wait) == {node.name for node in GRAPH.nodes if is_wait(node)}
    assert chosen(GRAPH, "add") == {"add"}
    assert chosen(GRAPH, closure_of(is_wait)) > chosen(GRAPH, is_wait)


def test_what_is_no_number_or_axis():
    with pytest.raises(
        FunpipeTypeError, match=r"'dp' is no number .* waits\(0\); for an axis write waits\(axis='dp'\)\."
    ):
        waits("dp")
    with pytest.raises(
        FunpipeTypeError, match=r"collectives: 1\.5 is no number of a collective: .* collectives\(0\)\."
    ):
        collectives(1.5)
    with pytest.raises(RotateError, match=r"waits: axis is 'tp'; use one of 'dp', 'pp', 'world', or leave it out\."):
        waits(axis="tp")


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (waits(), "waits()"),
        (waits(0, 3, axis="dp"), "waits(0, 3, axis='dp')"),
        (updates(["b", "a"]), "updates(['a', 'b'])"),
        (closure_of(is_wait) | collectives(1), "closure_of(is_wait) | collectives(1)"),
    ],
)
def test_text(selector, text):
    assert str(selector) == text
