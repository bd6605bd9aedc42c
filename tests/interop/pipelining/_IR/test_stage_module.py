"""Stages as modules: called, moved, compiled, pickled, copied."""

import copy
import pickle
from functools import cache

import pytest
import torch
from torch import nn

from funpipe.interop.pipelining import pipe_split, pipeline
from funpipe.interop.pipelining.errors import PipeAttributeError, PipeRuntimeError
from funpipe.interop.pipelining.wiring import Argument
from tests.interop.pipelining._IR.helpers import saved_and_loaded, seeded, stages_of
from tests.interop.pipelining._IR.models import Counting, Layers, Nested, Noisy, Regions, Shared, Skip

X = torch.arange(8.0).reshape(2, 4).sin()


def _dumped(value):
    return pickle.loads(pickle.dumps(value))


@cache
def _traced(make):
    x = torch.arange(24.0).reshape(2, 3, 4).sin() if make is Noisy else X
    return pipeline(make(), (x,)), x


@pytest.mark.parametrize("again", [_dumped, saved_and_loaded, copy.deepcopy])
@pytest.mark.parametrize("make", [Layers, Shared, Regions, Counting, Noisy])
def test_a_pipe_comes_back_the_same(make, again):
    pipe, x = _traced(make)
    other = again(pipe.train())
    torch.testing.assert_close(seeded(other, x), seeded(pipe, x))
    assert [sorted(stage.state_dict()) for stage in stages_of(other)] == [
        sorted(stage.state_dict()) for stage in stages_of(pipe)
    ]
    assert (other.wiring, other.replicated_params) == (pipe.wiring, pipe.replicated_params)
    torch.testing.assert_close(other.eval()(x), pipe.eval()(x))


def test_a_stage_comes_back_the_same():
    stage = pipeline(Nested(), ({"x": X, "rest": (X, 0)},), {"scale": X}).get_stage_module(1)
    torch.testing.assert_close(_dumped(stage)(X, X), stage(X, X))
    assert _dumped(stage).code == stage.code


def test_a_copy_has_its_own_parameters():
    pipe = pipeline(Shared(), (X,))
    first, second, _ = stages_of(copy.deepcopy(pipe))
    assert first.layer.weight is second.layer.weight
    assert first.layer.weight is not pipe.get_stage_module(0).layer.weight


def test_an_operator_that_nobody_defined_is_named():
    pipe = pipeline(Layers(), (X,))
    stage = pipe.get_stage_module(0)
    text = pickle.dumps(stage).replace(b"aten.tanh.default", b"nowhere.tan.defau")
    with pytest.raises(PipeAttributeError, match=r"the operator nowhere\.tan\.defau.*import the library"):
        pickle.loads(text)


def test_parameters_can_be_passed_in():
    stage = pipeline(Layers(), (X,)).get_stage_module(0)
    zeros = {name: torch.zeros_like(value) for name, value in stage.named_parameters()}
    assert not torch.func.functional_call(stage, zeros, (X,)).any()


def test_a_stage_is_one_compiled_graph():
    stage = pipeline(Skip(), (X, X)).get_stage_module(2)
    compiled = torch.compile(stage, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X, X, X), stage(X, X, X))


def test_a_stage_takes_its_arguments_by_name():
    class Two(Layers):
        def forward(self, x, y):
            return super().forward(x) + y

    stage = pipeline(Two(0, 0, 0, 0), (X,), {"y": X}).get_stage_module(0)
    torch.testing.assert_close(stage(X, y=X), stage(X, X))


def test_stages_move_to_another_dtype():
    stage = pipeline(Counting(), (X,)).get_stage_module(2).double()
    assert stage(X.double()).dtype == torch.float64


def test_a_stage_shows_its_graph(capsys):
    pipe = pipeline(Layers(0, 0, 1), (X,))
    stage = pipe.get_stage_module(0)
    assert [node.target for node in stage.graph.nodes if node.op == "placeholder"] == ["x"]
    stage.print_readable()
    assert "torch.ops.aten.linear.default" in capsys.readouterr().out
    pipe.print_readable()
    shown = capsys.readouterr().out
    assert shown.index("self.submod_pp_1(") < shown.index("# submod_pp_0") < shown.index("# submod_pp_1")
    assert str(pipe) == str(pipe.split_gm)
    assert repr(pipe) == repr(pipe.split_gm)


def test_a_submodule_of_a_stage_is_not_called_alone():
    stage = pipeline(Layers(), (X,)).get_stage_module(0)
    with pytest.raises(PipeRuntimeError, match=r"a submodule \(Linear\) of a traced stage was called.*call the stage"):
        stage.get_submodule("layers.0")(X)


def test_writing_into_an_earlier_stages_value_does_not_change_it():
    model = Counting()
    pipe = pipeline(model, (X,))
    first, second, _ = stages_of(pipe)
    made = first(X).requires_grad_()
    kept = made.detach().clone()
    second(made).sum().backward()
    torch.testing.assert_close(made.detach(), kept)
    model.calls.zero_()
    torch.testing.assert_close(pipe(X)[0], copy.deepcopy(model)(X))
    assert model.calls == 1


def test_a_buffer_that_a_submodule_assigns_to_changes_with_each_call():
    model = nn.Sequential(Counting(), nn.Linear(4, 4))
    pipe = pipeline(model, (X,))
    expected = copy.deepcopy(model)
    for _ in range(3):
        torch.testing.assert_close(pipe(X)[0], expected(X))
    assert model[0].calls == expected[0].calls == 3
    assert not model[0]._forward_hooks


def test_writing_through_a_view_does_not_change_an_earlier_stages_value_either():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)

        def forward(self, x):
            h = self.first(x)
            kept = h * 2
            pipe_split()
            h.view(-1)[:4].mul_(3)
            pipe_split()
            return h + kept

    model = Views()
    pipe, same = pipeline(model, (X,)), copy.deepcopy(model)
    first, second, third = stages_of(pipe)
    torch.testing.assert_close(pipe(X)[0], same(X))
    h, kept = (value.detach() for value in first(X))
    before = h.clone()
    torch.testing.assert_close(third(kept, second(h)), same(X))
    torch.testing.assert_close(h, before)
    assert pipe.wiring[2] == (Argument(0, 1), Argument(1, 0))
    pipe(X)[0].sum().backward()
    same(X).sum().backward()
    torch.testing.assert_close(model.first.weight.grad, same.first.weight.grad)
