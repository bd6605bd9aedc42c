"""`Pipe`: calls, arguments, results, losses, stages."""

import copy
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.export import register_dataclass
from torch.utils._pytree import GetAttrKey, register_pytree_node

from funpipe.interop.pipelining import Pipe, pipe_split, pipeline
from funpipe.interop.pipelining._IR import (
    DetachExecutor,
    LossWrapper,
    MultiUseParameterConfig,
    TrivialLossWrapper,
)
from funpipe.interop.pipelining.errors import (
    PipeNotImplementedError,
    PipeRuntimeError,
    PipeTypeError,
    PipeValueError,
)
from funpipe.interop.pipelining.wiring import Argument
from tests.interop.pipelining._IR.helpers import saved_and_loaded, stages_of
from tests.interop.pipelining._IR.models import Layers, Nested, Shared, Skip

X = torch.arange(8.0).reshape(2, 4).sin()
BATCH = {"x": X, "rest": (X.cos(), None)}


def _exported(model, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(model, args, strict=False)


def test_a_pipe_has_the_attributes_that_code_reads():
    pipe = pipeline(Layers(0, 0, 1), (X,))
    assert (pipe.num_stages, pipe.has_loss_and_backward, pipe.loss_spec) == (2, False, None)
    assert isinstance(pipe.executor, DetachExecutor)
    assert isinstance(pipe.split_gm, torch.fx.GraphModule)
    info = pipe.info()
    assert (info.graph, info.num_stages, info.has_loss_and_backward) == (pipe.split_gm.graph, 2, False)


def test_trees_go_in_whole_and_come_out_of_the_last_stage():
    model = Nested()
    pipe = pipeline(model, (BATCH,), {"scale": X})
    expected = model(BATCH, scale=X)
    assert pipe.wiring == ((Argument(None, 0),), (Argument(0, 0), Argument(None, "scale")))
    first, last = stages_of(pipe)
    torch.testing.assert_close(last(first(BATCH), X), expected)
    flat = pipe(BATCH, scale=X)
    torch.testing.assert_close(flat, (expected["sum"], *expected["parts"][0], None, 3))


def test_a_call_may_have_another_batch_size():
    model = Layers(0, 1, 1, 1)
    pipe = pipeline(model, (X,))
    x = torch.ones(7, 4)
    torch.testing.assert_close(pipe(x)[0], model(x))


def test_traced_keywords_may_come_by_position_and_the_other_way_round():
    pipe = pipeline(Skip(), (X,), {"target": X})
    expected = pipe(X, target=X)
    torch.testing.assert_close(pipe(X, X), expected)
    torch.testing.assert_close(pipe(x=X, target=X), expected)
    assert pipe.bind((), {"target": 1, "x": 2}) == (2, 1)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((X,), {}, r"arguments \(x, target\), and called with 1 by position and \[\] by name; pass target too\.$"),
        ((X, X), {"mask": X}, r"leave out mask, or call pipeline\(\) again with it in mb_kwargs\.$"),
        ((X, X), {"x": X}, r"pass x once\.$"),
        ((X, X, X), {}, r"pass fewer by position\.$"),
    ],
)
def test_arguments_that_do_not_fit(args, kwargs, text):
    with pytest.raises(PipeTypeError, match=text):
        pipeline(Skip(), (X, X))(*args, **kwargs)


def test_what_is_no_tensor_has_to_stay_as_it_was():
    pipe = pipeline(Nested(), (BATCH,), {"scale": X, "factor": 2})
    with pytest.raises(PipeValueError, match=r"argument 'factor' is 3 where .* with 2, .*call pipeline\(\) again"):
        pipe(BATCH, scale=X, factor=3)
    torch.testing.assert_close(pipe(BATCH, scale=X, factor=2), pipe(BATCH, X, 2))


def test_an_argument_may_be_a_registered_dataclass():
    pipe = pipeline(_TakesSamples(), (_Sample(X, {"scale": X}),))
    sample = _Sample(X.cos(), {"scale": X * 3})
    torch.testing.assert_close(copy.deepcopy(pipe)(sample)[0], X.cos() * X * 3)


def test_a_registered_dataclass_is_what_the_last_stage_returns():
    class Sampling(nn.Module):
        def forward(self, x):
            pipe_split()
            return _Sample(x.sin(), {"scale": x})

    pipe = saved_and_loaded(pipeline(Sampling(), (X,)))
    out = pipe.get_stage_module(0)(X)
    assert isinstance(out, _Sample)
    torch.testing.assert_close(pipe(X), (out.x, out.rest["scale"]))


def test_an_argument_that_cannot_be_taken_apart():
    with pytest.raises(PipeTypeError, match=r"argument 'batch' holds a _Opaque.*pass tensors, or dicts"):
        pipeline(_TakesOpaque(), (_Opaque(X),))


def test_any_number_of_positional_arguments():
    class Sum(nn.Module):
        def forward(self, *values):
            return values[0] + values[1]

    pipe = pipeline(Sum(), (X, X))
    torch.testing.assert_close(pipe(X, X)[0], X + X)


def test_gradients_flow_through_a_call():
    model = Skip()
    same = copy.deepcopy(model)
    pipeline(model, (X, X))(X, X.cos())[0].backward()
    same(X, X.cos())["loss"].backward()
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_loss_in_the_graph_fills_gradients():
    model = Skip()
    same = copy.deepcopy(model)
    spec = {"loss": True, "out": False}
    pipe = Pipe._from_traced(model, _exported(model, X, X.cos()), output_loss_value_spec=spec)
    assert (pipe.has_loss_and_backward, pipe.loss_spec) == (True, spec)
    loss, _ = pipe(X, X.cos())
    expected = same(X, X.cos())["loss"]
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert copy.deepcopy(pipe).has_loss_and_backward


def test_a_traced_loss_is_a_result_like_any_other():
    pipe = Pipe.from_tracing(TrivialLossWrapper(Shared(), nn.functional.mse_loss), (X, X.cos()))
    assert not pipe.has_loss_and_backward
    assert pipe(X, X.cos())[0].shape == ()


def test_a_shared_parameter_gets_the_gradients_of_all_its_stages():
    model = TrivialLossWrapper(Shared(), nn.functional.mse_loss)
    same = copy.deepcopy(model)
    pipe = Pipe._from_traced(model, _exported(model, X, X.cos()), output_loss_value_spec=model.loss_spec)
    pipe(X, X.cos())
    same(X, X.cos()).backward()
    torch.testing.assert_close(model.module.layer.weight.grad, same.module.layer.weight.grad)
    torch.testing.assert_close(model.module.first.weight.grad, same.module.first.weight.grad)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"loss": False, "out": False}, r"Did not find loss value in specification .* write True where the loss is\.$"),
        (True, r"Loss spec must specify a dynamic value but got \{'loss': \.\.\., 'out': \.\.\.\}"),
        ((True, False), r"Output value .* must match type of loss specification \(True, False\)"),
        ({"loss": True}, r"must match length of loss specification .* have \['loss', 'out'\]\.$"),
    ],
)
def test_a_loss_that_is_not_where_it_is_said_to_be(spec, text):
    model = Skip()
    with pytest.raises(PipeRuntimeError, match=text):
        Pipe._from_traced(model, _exported(model, X, X.cos()), output_loss_value_spec=spec)


def test_parameters_are_replicated_and_not_sent():
    model = Shared()
    exported = _exported(model, X)
    for spec in (MultiUseParameterConfig.TRANSMIT, {"layer.weight": MultiUseParameterConfig.TRANSMIT}):
        with pytest.raises(PipeNotImplementedError, match=r"TRANSMIT.*use MultiUseParameterConfig\.REPLICATE\.$"):
            Pipe._from_traced(model, exported, multi_use_param_spec=spec)
    with pytest.raises(PipeTypeError, match=r"says 'all' for every parameter; use"):
        Pipe._from_traced(model, exported, multi_use_param_spec="all")  # type: ignore[arg-type]
    assert Pipe._from_traced(model, exported, MultiUseParameterConfig.REPLICATE).num_stages == 3


@pytest.mark.parametrize("index", [-1, 2])
def test_stages_that_do_not_exist(index):
    pipe = pipeline(Layers(0, 0, 1), (X,))
    with pytest.raises(PipeValueError, match=rf"Invalid stage index {index}! Use one from 0 to 1\."):
        pipe.get_stage_module(index)
    with pytest.raises(PipeValueError, match="Invalid stage index"):
        pipe.build_stage(index, torch.device("cpu"))


def test_the_graph_is_not_called_by_itself():
    with pytest.raises(PipeRuntimeError, match="To run pipeline locally, invoke the Pipe object directly.*pipe"):
        pipeline(Layers(), (X,)).split_gm(X)


def test_a_built_stage_makes_its_tensors_on_its_device():
    class Devices(nn.Module):
        def forward(self, x):
            with torch.autocast("cpu"):
                y = x @ x
            return x + y.float() + torch.zeros(4, device="cpu") + torch.arange(4).to("cpu")

    pipe = pipeline(Devices(), (torch.eye(4),))
    stage = pipe.build_stage(0, "meta")
    assert (stage.stage_index, stage.num_stages, stage.device.type) == (0, 1, "meta")
    assert stage.wiring == ((Argument(None, 0)),)
    code = pipe.get_stage_module(0).code
    assert "type='meta'" in code
    assert "cpu" not in code


def test_a_loss_wrapper_needs_a_forward():
    with pytest.raises(PipeNotImplementedError, match="LossWrapper has no forward.*TrivialLossWrapper"):
        LossWrapper(nn.Identity(), nn.functional.mse_loss)(X)


def test_an_executor_runs_a_graph():
    assert torch.equal(DetachExecutor(torch.fx.symbolic_trace(nn.ReLU())).run(-X), torch.relu(-X))


@dataclass
class _Sample:
    x: torch.Tensor
    rest: dict[str, torch.Tensor]


register_dataclass(_Sample)


class _TakesSamples(nn.Module):
    def forward(self, batch):
        return batch.x * batch.rest["scale"]


class _Opaque:
    def __init__(self, x):
        self.x = x


register_pytree_node(
    _Opaque,
    lambda value: ([value.x], None),
    lambda children, _: _Opaque(*children),
    flatten_with_keys_fn=lambda value: ([(GetAttrKey("x"), value.x)], None),
)


class _TakesOpaque(nn.Module):
    def forward(self, batch):
        return batch.x + 1
