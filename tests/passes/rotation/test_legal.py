"""Every illegal move is refused, with the name of what reads the deferred value and a way out."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import RotateError
from funpipe._typing import MeshShape, TensorType
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Node, Ref
from funpipe.passes.rotation import closure_of, collectives, rotated, updates, waits
from tests.passes.rotation.folds import mlp

TWO = MeshShape(1, 2)
KIND = TensorType((2,), (1,), torch.float32)
aten = torch.ops.aten


@pytest.fixture(scope="module")
def graph():
    return mlp(fp.optim.adamw(1e-2), TWO).graph


def call(name, target, *args, source=None):
    return Node(name, target, args, type=KIND, source=source)


def step(*nodes, **outputs):
    """A step with a leaf `w`; further outputs by name."""
    given = {"state.w": Ref(nodes[-1].name)} | {f"aux.{n}": Ref(v) for n, v in outputs.items()}
    return Graph({"state.w": KIND, "batch.x": KIND}, nodes, given)


def error_of(graph, defer, before=None):
    with pytest.raises(RotateError) as error:
        rotated(graph, defer, before)
    return str(error.value)


def test_a_reader_in_the_same_step():
    found = error_of(
        step(
            call("grad", aten.mul.Tensor, Ref("state.w"), Ref("batch.x")),
            call("half", aten.mul.Tensor, Ref("grad"), 0.5, source="train.py:12"),
            call("new", aten.sub.Tensor, Ref("state.w"), Ref("half")),
        ),
        {"grad"},
    )
    assert found == (
        "half (aten.mul.Tensor at train.py:12) reads %grad in this step, but grad (aten.mul.Tensor), which makes it, "
        "is deferred: defer 'half' with all behind it, too, as passes.closure_of does, or leave 'grad' out of defer."
    )


def test_a_result_of_the_same_step():
    graph = step(
        call("new", aten.sub.Tensor, Ref("state.w"), Ref("batch.x")),
        call("norm", aten.abs.default, Ref("new")),
        call("again", aten.neg.default, Ref("new")),
        norm="norm",
    )
    assert error_of(graph, closure_of(lambda node: node.name == "new")) == (
        "the output 'aux.norm' is %norm, but norm (aten.abs.default), which makes it, is deferred, and an output is "
        "wanted in its own step: leave 'norm' out of defer, or do not return it."
    )


def test_a_metric_of_the_wait(graph):
    for defer in (waits(-1), collectives(6)):
        found = error_of(graph, defer)
        assert found.startswith("the output 'aux.loss' is %div_7, but div_7 (aten.div.Tensor at ")
        assert found.endswith("leave 'div_7' out of defer (it is made of collective 6), or do not return it.")


def test_a_place_behind_the_first_reader(graph):
    """The first layer's parameters are read by `addmm`, which stands in front of `tanh`."""
    found = error_of(graph, waits(4, 5), before="tanh")
    assert found.startswith("addmm (aten.addmm.default at ")
    assert "reads 'params.b0', which is %" in found
    assert "stands in front of before='tanh', so it would read a stale value: update_2" not in found
    assert found.endswith(
        "is deferred up to there. Use before='addmm' or a node in front of it, or leave before out to place the "
        "deferred work by data flow."
    )
    rotated(graph, waits(4, 5), before="addmm")


def test_a_place_that_is_not_there(graph):
    assert error_of(graph, waits(0), before="adm").startswith("before='adm' is no node of the graph; use ")
    assert "before='update' is itself deferred: name a node that stays" in error_of(graph, waits(0), before="update")


def test_a_start_without_its_wait(graph):
    assert error_of(graph, {"all_reduce"}) == (
        "all_reduce (funpipe_collectives.all_reduce.default at "
        f"{graph.node('all_reduce').source}) is deferred, but {graph.node('wait_tensor').where} waits for it in this "
        "step: defer both, as passes.collectives does, or the wait alone, as passes.waits does."
    )


def test_nothing(graph):
    assert error_of(graph, set()) == (
        "defer=set() chooses no node, so there is nothing to rotate: of the graph's collectives passes.waits(0) to "
        "passes.waits(6) choose something, and passes.updates(names) takes leaves of the state: 'params.b0', "
        "'params.b1', 'params.b2', 'params.w0', …."
    )
    assert "chooses no node" in error_of(graph, lambda node: False)
    alone = step(call("new", aten.neg.default, Ref("state.w")))
    assert error_of(alone, waits()).endswith("to rotate: passes.updates(names) takes leaves of the state: 'w'.")


def test_only_a_part_of_a_result(graph):
    assert error_of(graph, {"getitem"}).startswith(
        "only parts of a result were chosen, and the operator that gives them"
    )


def test_what_is_not_there(graph):
    assert error_of(graph, {"wait_tenser"}).startswith(
        "defer names 'wait_tenser', and the graph has no such node; use "
    )
    assert error_of(graph, waits(7)) == "there is no collective 7: the graph has 7; use a number from 0 to 6."
    assert error_of(graph, collectives(0, axis="pp")) == (
        "there is no collective 0 on axis 'pp': the graph has 0; passes.updates(names) takes leaves of the state: "
        "'params.b0', 'params.b1', 'params.b2', 'params.w0', …."
    )
    assert error_of(graph, updates(["params.w9"])).startswith(
        "updates names 'params.w9', which is no leaf of the state; use one of 'params.w"
    )


def test_after_donation():
    graph = step(call("new", aten.add_.Tensor, Ref("state.w"), Ref("batch.x")))
    assert error_of(graph, {"new"}) == (
        "new (aten.add_.Tensor) overwrites %state.w: rotate the step before passes.donate(), and donate in the three "
        "graphs that rotating gives."
    )


def test_a_state_that_does_not_go_on():
    graph = step(call("new", aten.neg.default, Ref("state.w"))).replace(outputs={"state.v": Ref("new")})
    assert error_of(graph, {"new"}) == (
        "the step gives 'state.v' and never takes it, so its state cannot go on to the next step: let the step return "
        "a state with the leaves that it takes."
    )
    assert "the step takes 'state.w' and never gives it" in error_of(graph.replace(outputs={}), {"new"})


def sending(*more):
    return step(
        call("new", aten.neg.default, Ref("state.w")),
        Node("send", OPERATORS.send.default, (Ref("new"), 0)),
        *more,
        call("last", aten.neg.default, Ref("new")),
    )


def test_a_leaf_that_is_sent_to_another_stage():
    assert error_of(sending(), {"new", "last"}) == (
        "send (funpipe_collectives.send.default) sends %new to another stage in this step, but new (aten.neg.default) "
        "is deferred: leave it out of defer (a leaf that several stages use is updated in its own step)."
    )


def test_a_message():
    assert error_of(sending(), {"new", "send", "last"}) == (
        "send (funpipe_collectives.send.default) carries a message between stages, and was chosen because it reads "
        "%new; another stage waits for it in this step: leave what it depends on out of defer (a leaf that several "
        "stages use is updated in its own step)."
    )
    posted = sending(Node("post", OPERATORS.post_recv.default, (1,)))
    assert "and was chosen; another stage" in error_of(posted, {"post"})
