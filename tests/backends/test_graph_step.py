"""Graphs as compiled steps. What the source does is tested with segments that run operator by operator, which takes no
compiler; one small step is compiled, for the two together."""

import re
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import funpipe as fp
from funpipe._errors import CompileError
from funpipe._typing import MeshShape, TensorType
from funpipe.backends.graph_order import check_order
from funpipe.backends.graph_source import write
from funpipe.backends.graph_step import graph_step
from funpipe.backends.segments import segments
from funpipe.functional.communication import OPERATORS, WAIT
from funpipe.graphs import Graph, Node, Ref
from tests.backends.scribe import Scribe, interpreted, sourced, uncompiled
from tests.passes.random_graphs import Steps, random_graph, random_inputs, random_pipeline

aten = torch.ops.aten
LARGE = TensorType((512, 512), (512, 1), torch.float32)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_source_of_a_random_step_does_what_it_means_in_its_order(random: Random):
    graph = random_graph(random)
    inputs = random_inputs(graph, random)[0]
    wanted, found = interpreted(graph, inputs), sourced(graph, inputs)
    assert same(wanted[0], found[0])
    assert wanted[1] == found[1]


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_source_of_a_pipelined_rank_does_too(random: Random):
    for graph in random_pipeline(random):
        inputs = {n: torch.rand(k.shape).to(k.dtype) for n, k in graph.inputs.items()}
        wanted, found = interpreted(graph, inputs), sourced(graph, inputs)
        assert same(wanted[0], found[0])
        assert wanted[1] == found[1]


def model(params: dict[str, Tensor], x: Tensor) -> Tensor:
    for i in range(len(params) // 2):
        x = (x @ params[f"w{i}"] + params[f"b{i}"]).relu()
    return x


def traced(layers: int = 4) -> tuple[fp.graphs.Step, dict[str, Tensor]]:
    """A step of two replicas with Adam, and its inputs."""
    optimizer = fp.optim.adam(1e-2)

    def step(state, batch):
        loss = lambda params: model(params, batch).square().mean()  # noqa: E731
        grads, value = torch.func.grad_and_value(loss)(state["params"])
        grads = fp.pmean(grads, "dp")
        new, slots = fp.optim.apply(optimizer, state["params"], grads, state["slots"], state["step"])
        return {"params": new, "slots": slots, "step": state["step"] + 1}, {"loss": value}

    random = torch.Generator().manual_seed(0)
    params = {f"w{i}": torch.randn(16, 16, generator=random) for i in range(layers)}
    params |= {f"b{i}": torch.randn(16, generator=random) for i in range(layers)}
    state = {"params": params, "slots": optimizer.init(params), "step": torch.tensor(3)}
    made = fp.trace_step(step, state, torch.ones(8, 16), mesh=MeshShape(1, 2))
    return made, made.inputs(state, torch.randn(8, 16, generator=random), {"dp": 0, "pp": 0})


def test_a_compiled_step_computes_what_its_graph_means_and_says_it_in_that_order():
    made, inputs = traced()
    scribe = Scribe(made.graph)
    compiled = graph_step(made.graph)
    found = dict(zip(made.graph.outputs, compiled(scribe, list(inputs.values())), strict=True))
    wanted, said = interpreted(made.graph, inputs)
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[n], wanted[n], rtol=1e-6, atol=1e-7) for n in wanted)
    assert scribe.said == said
    assert re.search(r"part1 +\d x piece\d", compiled.as_text()), "equal layers are compiled once"


@pytest.mark.parametrize("passes", [("donate",), ("fuse_updates", "donate"), ("bucket", "update_early", "donate")])
def test_a_donated_step_gives_the_same_and_overwrites_its_state(passes: tuple[str, ...]):
    made, inputs = traced(2)
    graph = fp.passes.compose(*(getattr(fp.passes, name)() for name in passes))(made.graph)
    given = {n: t.clone() for n, t in inputs.items()}
    with torch.no_grad(), fp.functional.objects.knowing(graph.objects):
        found = dict(zip(graph.outputs, uncompiled(write(graph))(Scribe(graph), list(given.values())), strict=True))
    wanted, _ = interpreted(made.graph, inputs)
    assert all(torch.allclose(found[n], wanted[n], rtol=1e-5, atol=1e-7) for n in wanted)
    assert torch.equal(given["state.params.w0"], found["state.params.w0"])


def test_numbers_are_worked_out_apart_and_first():
    made, _ = traced(2)
    taken = segments(fp.passes.expand_updates()(made).graph, {})
    names = {str(node.target) for node in taken.numbers}
    assert "aten.pow.Scalar" in names and all(node.type.numel == 1 for node in taken.numbers)


def waiting(count: int, kind: TensorType) -> Graph:
    """One collective after the other, each divided as soon as it is there, and one reader of all."""
    nodes = []
    for i in range(count):
        nodes.append(Node(f"p{i}", OPERATORS.all_reduce.default, (Ref(f"batch.{i}"), "sum", "dp"), type=kind))
        nodes.append(Node(f"w{i}", WAIT, (Ref(f"p{i}"),), type=kind))
        nodes.append(Node(f"d{i}", aten.div.Tensor, (Ref(f"w{i}"), 2), type=kind))
    nodes.append(Node("all", aten.cat.default, ([Ref(f"d{i}") for i in range(count)],), type=kind))
    return Graph({f"batch.{i}": kind for i in range(count)}, tuple(nodes), {"aux.all": Ref("all")})


def test_small_segments_between_waits_become_one():
    small = TensorType((4,), (1,), torch.float32)
    assert len(write(waiting(20, small)).parts) == 1


def test_large_segments_stay_where_the_passes_have_put_them():
    graph = waiting(5, LARGE)
    taken = segments(graph, {node.name: 1e-3 for node in graph.nodes if node.name.startswith("d")})
    assert [[node.name for node in part] for part in taken.parts if part] == [
        ["d0"],
        ["d1"],
        ["d2"],
        ["d3"],
        ["d4", "all"],
    ]


def test_what_a_collective_was_given_is_kept_until_its_wait():
    kind = LARGE
    nodes = (
        Node("g", aten.neg.default, (Ref("batch.x"),), type=kind),
        Node("p", OPERATORS.all_reduce.default, (Ref("g"), "sum", "dp"), type=kind),
        Node("h", aten.exp.default, (Ref("batch.x"),), type=kind),
        Node("w", WAIT, (Ref("p"),), type=kind),
    )
    lines = write(Graph({"batch.x": kind}, nodes, {"aux.w": Ref("w"), "aux.h": Ref("h")})).source.splitlines()
    at = {text.strip(): i for i, text in enumerate(lines)}
    deleted = next(i for text, i in at.items() if re.match(r"del .*\bg\b", text))
    assert at["w = communicator.wait(p)"] < deleted


def test_python_numbers_are_called_directly():
    steps = Steps()
    steps.input("batch.x", (), torch.float64)
    steps.input("batch.y", (4,), torch.float64)
    number = Node("n", aten._local_scalar_dense.default, (Ref("batch.x"),))
    power = Node("m", pow, (Ref("n"), 2))
    scaled = Node("s", aten.mul.Tensor, (Ref("batch.y"), Ref("m")), type=steps.inputs["batch.y"])
    graph = Graph(steps.inputs, (number, power, scaled), {"aux.s": Ref("s"), "aux.none": None, "aux.two": 2})
    inputs = {"batch.x": torch.tensor(3.0, dtype=torch.float64), "batch.y": torch.ones(4, dtype=torch.float64)}
    found, _ = sourced(graph, inputs)
    assert found["aux.s"].tolist() == [9.0] * 4 and found["aux.none"] is None and found["aux.two"] == 2


def test_moved_communication_is_an_error():
    graph = waiting(2, TensorType((4,), (1,), torch.float32))
    written = write(graph)
    lines = written.source.splitlines()
    at = next(i for i, line in enumerate(lines) if "p1 = " in line)
    lines.insert(2, lines.pop(at))
    with pytest.raises(CompileError, match=r"operation 0 should be 'p0 = all_reduce' and is 'p1 = all_reduce'"):
        check_order(graph, "\n".join(lines), written.variables)


def test_values_may_be_called_like_anything():
    kind = TensorType((4,), (1,), torch.float32)
    names = ["inputs", "part0", "lambda", "ops", "communicator", "step", "a.b"]
    nodes, last = [], "batch.x"
    for name in names:
        nodes.append(Node(name, aten.neg.default, (Ref(last),), type=kind))
        nodes.append(Node(f"{name}_p", OPERATORS.all_reduce.default, (Ref(name), "sum", "dp"), type=kind))
        nodes.append(Node(f"{name}_w", WAIT, (Ref(f"{name}_p"),), type=kind))
        last = f"{name}_w"
    graph = Graph({"batch.x": kind}, tuple(nodes), {"aux.y": Ref(last)})
    inputs = {"batch.x": torch.arange(4.0)}
    assert same(sourced(graph, inputs)[0], interpreted(graph, inputs)[0])
    written = write(graph)
    check_order(graph, written.source, written.variables)
