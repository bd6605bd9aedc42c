"""Where stages end: marks in the code, split points by name, a policy over the graph."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from funpipe.interop.pipelining import SplitPoint, pipe_split, pipeline
from funpipe.interop.pipelining._IR import (
    Pipe,
    PipeSequential,
    PipeSplitWrapper,
    annotate_split_points,
    aten_pipe_split_alias,
    get_submod_name,
)
from funpipe.interop.pipelining.errors import PipeAttributeError, PipeValueError
from funpipe.interop.pipelining.wiring import Argument
from tests.interop.pipelining._IR.helpers import names_of, stages_of
from tests.interop.pipelining._IR.models import Layers, Skip

X = torch.ones(2, 4)


def test_a_mark_does_nothing_without_tracing():
    assert pipe_split() is None


@settings(max_examples=8)
@given(st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_marks_cut_between_layers_and_leave_no_holes(marks):
    model = Layers(*marks)
    pipe = pipeline(model, (X,))
    assert pipe.num_stages == 1 + sum(map(bool, marks[1:4]))
    assert all(names_of(pipe))
    torch.testing.assert_close(pipe(X)[0], model(X))


def test_split_points_are_before_or_after_a_submodule():
    model = Layers()
    pipe = pipeline(model, (X,), split_spec={"layers.1": SplitPoint.END})
    assert names_of(pipe)[0] == ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"]
    pipe = pipeline(model, (X,), split_spec={"layers.1": SplitPoint.BEGINNING, "layers.2": SplitPoint.END})
    assert [len(names) for names in names_of(pipe)] == [2, 4, 2]
    assert PipeSplitWrapper.SplitPoint is SplitPoint


def test_a_split_spec_leaves_nothing_in_the_model():
    model = Layers()
    before = {name: {**vars(module)} for name, module in model.named_modules()}
    spec = {"layers.2": SplitPoint.BEGINNING}
    assert [pipeline(model, (X,), split_spec=spec).num_stages for _ in range(3)] == [2, 2, 2]
    assert {name: {**vars(module)} for name, module in model.named_modules()} == before
    assert pipeline(model, (X,)).num_stages == 1


def test_a_split_spec_is_taken_back_when_tracing_fails():
    model = Layers()
    with pytest.raises(RuntimeError, match="full graph"):
        pipeline(model, (torch.ones(2, 5),), split_spec={"layers.2": SplitPoint.BEGINNING})
    assert pipeline(model, (X,)).num_stages == 1


def test_annotations_stay_and_the_last_one_counts():
    model = Layers()
    annotate_split_points(model, {"layers.1": SplitPoint.BEGINNING})
    annotate_split_points(model, {"layers.1": SplitPoint.END})
    annotate_split_points(model, {"layers.1": SplitPoint.END})
    assert [len(names) for names in names_of(Pipe.from_tracing(model, (X,)))] == [4, 4]
    torch.testing.assert_close(model(X), pipeline(model, (X,))(X)[0])


def test_marks_may_be_inside_of_submodules_and_loops():
    model = nn.Sequential(Layers(0, 1), nn.Sequential(Layers(0, 0, 0, 1)))
    pipe = pipeline(model, (X,))
    assert [names[0] for names in names_of(pipe)] == ["0.layers.0.bias", "0.layers.1.bias", "1.0.layers.3.bias"]


def test_a_policy_puts_marks_into_the_graph():
    def after_the_second_linear(captured):
        linear = [node for node in captured.graph.nodes if node.target is torch.ops.aten.linear.default][1]
        with captured.graph.inserting_after(linear):
            captured.graph.call_function(aten_pipe_split_alias, (), {})
        captured.recompile()
        return captured

    pipe = pipeline(Layers(), (X,), split_policy=after_the_second_linear)
    assert [len(names) for names in names_of(pipe)] == [4, 4]


def test_each_module_of_a_pipe_sequential_is_a_stage():
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model = PipeSequential.from_sequential(plain)
    assert model[0] is plain[0]
    assert names_of(pipeline(model, (X,))) == [["0.bias", "0.weight"], [], ["2.bias", "2.weight"]]


def test_values_go_straight_from_their_maker_to_each_reader():
    pipe = pipeline(Skip(), (X, X))
    first = Argument(0, 0)
    assert pipe.wiring == ((Argument(None, 0),), (first,), (first, Argument(1, 0), Argument(None, 1)))
    assert pipe.info().wiring == pipe.wiring
    assert [node.name for node in pipe.split_gm.graph.nodes if node.op == "call_module"] == [
        get_submod_name(stage) for stage in range(3)
    ]


def test_parts_of_one_result_stay_with_it():
    class Halves(nn.Module):
        def forward(self, x):
            one, other = x.split(2, 1)
            pipe_split()
            return one + other

    pipe = pipeline(Halves(), (X,))
    assert pipe.wiring[1] == (Argument(0, 0), Argument(0, 1))
    assert [type(value) for value in stages_of(pipe)[0](X)] == [torch.Tensor, torch.Tensor]


def test_a_stage_that_nobody_reads_returns_nothing():
    class Idle(nn.Module):
        def forward(self, x):
            x.sin()
            pipe_split()
            return x.cos()

    pipe = pipeline(Idle(), (X,))
    assert stages_of(pipe)[0](X) == ()
    torch.testing.assert_close(pipe(X)[0], X.cos())


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        (
            {"layers.9": SplitPoint.END},
            PipeAttributeError,
            r"Specified target layers\.9 referenced nonexistent module layers\.9; the nearest submodule is 'layers\.",
        ),
        (
            {"lairs.0.net": SplitPoint.END},
            PipeAttributeError,
            r"Specified target lairs\.0\.net referenced nonexistent module lairs; ",
        ),
        ({"layers.1": "end"}, PipeValueError, r"Unknown split point type.*'layers\.1'.*SplitPoint\.END\.$"),
    ],
)
def test_split_points_that_cannot_be(spec, error, text):
    with pytest.raises(error, match=text):
        pipeline(Layers(), (X,), split_spec=spec)
    with pytest.raises(error, match=text):
        annotate_split_points(Layers(), spec)


def test_one_way_to_cut_at_a_time():
    with pytest.raises(PipeValueError, match="Cannot specify both `split_spec` and `split_policy`.*only one"):
        pipeline(Layers(), (X,), split_spec={}, split_policy=lambda captured: captured)


def test_a_stage_cannot_end_inside_autocast():
    class Inside(nn.Module):
        def forward(self, x):
            with torch.autocast("cpu"):
                x = x @ x
                pipe_split()
                return x @ x

    with pytest.raises(PipeValueError, match=r"inside a `with torch\.autocast`.*outside of the block\.$"):
        pipeline(Inside(), (torch.ones(4, 4),))
