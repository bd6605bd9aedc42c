import pytest
import torch

import funpipe as fp
from funpipe._errors import GraphError, TreeError
from funpipe._typing import TensorType
from funpipe.graphs import Ref, interpret

STATE = {"w": torch.ones(2), "n": torch.tensor(0)}
BATCH = {"x": torch.ones(2)}


def step(state, batch):
    return {"w": state["w"] * batch["x"], "n": state["n"] + 1}, {"sum": batch["x"].sum()}


@pytest.fixture(scope="module")
def traced():
    return fp.trace_step(step, STATE, BATCH)


def test_trees_become_inputs_and_outputs_become_trees(traced):
    inputs = traced.inputs({"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(4)}, {"x": torch.tensor([3.0, 5.0])})
    assert list(inputs) == ["state.n", "state.w", "batch.x"]
    state, aux = traced.results(interpret(traced.graph, inputs))
    assert (state["w"].tolist(), state["n"].item(), aux["sum"].item()) == ([3, 10], 5, 8)


def test_types_of_the_leaves(traced):
    assert traced.types("batch") == {"x": TensorType((2,), (1,), torch.float32)}
    assert list(traced.types("state")) == ["n", "w"]


def test_another_batch_is_refused(traced):
    with pytest.raises(TreeError, match=r"batch: leaf 'x' is float32\[3\], but float32\[2\] was expected"):
        traced.inputs(STATE, {"x": torch.ones(3)})
    with pytest.raises(TreeError, match="state: missing 'n'"):
        traced.inputs({"w": torch.ones(2)}, BATCH)


def test_a_pass_maps_the_graph(traced):
    def without_the_count(graph):
        return graph.replace(outputs={**graph.outputs, "state.n": Ref("state.n")}, applied=(*graph.applied, "freeze"))

    changed = traced.map(without_the_count)
    assert changed.graph.applied == ("freeze",) and traced.graph.applied == ()
    assert changed.results(interpret(changed.graph, changed.inputs(STATE, BATCH)))[0]["n"].item() == 0


def test_a_pass_keeps_inputs_and_outputs(traced):
    with pytest.raises(GraphError, match=r"differ in the output 'aux\.sum': keep the names"):
        traced.map(lambda g: g.replace(outputs={n: v for n, v in g.outputs.items() if n != "aux.sum"}))
    with pytest.raises(GraphError, match=r"takes 'batch\.y', which the step does not: make it a constant"):
        traced.map(lambda g: g.replace(inputs={**g.inputs, "batch.y": TensorType((), (), torch.float32)}))


def test_a_pass_may_add_a_constant(traced):
    kind = TensorType((), (), torch.float32)
    changed = traced.map(
        lambda g: g.replace(inputs={**g.inputs, "const.c": kind}, constants={"const.c": torch.tensor(1.0)})
    )
    assert list(changed.inputs(STATE, BATCH)) == ["state.n", "state.w", "batch.x"]


def test_places_are_asked_for_where_they_are_read():
    where = fp.trace_step(lambda s, x: (s, x + fp.axis_index("dp")), {}, torch.ones(1), mesh=fp.MeshShape(pp=1, dp=2))
    assert where.inputs({}, torch.ones(1), {"dp": 1})["axis.dp"].item() == 1
    with pytest.raises(GraphError, match=r"reads 'axis\.dp', this rank's place .*'dp': mesh\.dp_rank"):
        where.inputs({}, torch.ones(1))


def test_alone_every_place_is_the_first():
    where = fp.trace_step(lambda s, x: (s, x + fp.axis_index("dp")), {}, torch.ones(1))
    assert where.inputs({}, torch.ones(1))["axis.dp"].item() == 0


def test_it_prints(traced):
    assert traced.as_text().splitlines()[-1] == "return aux.sum = %sum_1"


def test_what_is_printed(traced):
    assert str(traced) == traced.graph.as_text()
    assert repr(traced) == "Step(Graph(3 inputs, 3 nodes, 3 outputs), pp=1, dp=1)"
