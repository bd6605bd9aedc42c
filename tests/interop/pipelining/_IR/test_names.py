"""What stages keep of a model: names, parameters, buffers, submodules."""

import pytest
import torch
from torch import nn

from funpipe.interop.pipelining import SplitPoint, pipeline
from funpipe.interop.pipelining._IR import MultiUseParameterConfig
from funpipe.interop.pipelining.errors import PipeValueError
from tests.interop.pipelining._IR.helpers import names_of, saved_and_loaded, stages_of
from tests.interop.pipelining._IR.models import Counting, Layers, Noisy, Shared

X = torch.ones(2, 4)


def test_stages_have_the_models_own_parameters_and_buffers():
    model = Noisy()
    for stage in stages_of(pipeline(model, (torch.ones(2, 3, 4),))):
        for name, parameter in stage.named_parameters():
            assert parameter is model.get_parameter(name)
        for name, buffer in stage.named_buffers():
            assert buffer is model.get_buffer(name)


def test_a_stage_loads_its_part_of_the_models_state():
    model, other = Layers(0, 0, 1), Layers(0, 0, 1)
    saved = other.state_dict()
    for stage in stages_of(pipeline(model, (X,))):
        stage.load_state_dict({name: saved[name] for name in stage.state_dict()})
    torch.testing.assert_close(model(X), other(X))


def test_all_names_are_somewhere_and_submodules_keep_theirs():
    model = Shared()
    assert names_of(pipeline(model, (X,))) == [
        ["first.weight", "idle.bias", "idle.weight", "layer.bias", "layer.weight", "spare"],
        ["layer.bias", "layer.weight"],
        ["again.bias", "again.weight", "head.weight"],
    ]


def test_a_parameter_of_several_stages_is_one_object():
    model = Shared()
    pipe = pipeline(model, (X,))
    first, second, third = stages_of(pipe)
    assert first.layer.weight is second.layer.weight is third.again.weight is model.layer.weight
    assert first.first.weight is third.head.weight
    assert pipe.replicated_params == [
        {"submod_pp_0": "layer.weight", "submod_pp_1": "layer.weight", "submod_pp_2": "again.weight"},
        {"submod_pp_0": "layer.bias", "submod_pp_1": "layer.bias", "submod_pp_2": "again.bias"},
        {"submod_pp_0": "first.weight", "submod_pp_2": "head.weight"},
    ]
    assert pipe.info().replicated[2] == ((0, "first.weight"), (2, "head.weight"))


def test_an_unused_module_stays_with_the_one_before_it():
    class Gap(Layers):
        def __init__(self):
            super().__init__(0, 0, 1)
            self.layers.insert(4, nn.Linear(3, 3))

        def forward(self, x):
            layers, self.layers = self.layers, self.layers[:4]
            out = super().forward(x)
            self.layers = layers
            return out

    assert "layers.4.weight" in names_of(pipeline(Gap(), (X,)))[1]


def test_buffers_are_saved_or_not_as_in_the_model():
    model = Counting()
    pipe = pipeline(model, (X,))
    assert names_of(pipe) == [["calls"], [], []]
    assert [sorted(dict(stage.named_buffers())) for stage in stages_of(pipe)] == [
        ["calls", "hidden"],
        [],
        [],
    ]


def test_a_tensor_that_the_code_makes_has_no_name_and_moves_with_its_stage():
    last = stages_of(pipeline(Counting(), (X,)))[2]
    assert not [*last.named_buffers(), *last.named_parameters()]
    held = vars(saved_and_loaded(last.double())._stage_constants)
    assert [tensor.dtype for tensor in held.values()] == [torch.float64]


def test_submodules_are_in_the_models_order_with_their_classes():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.ReLU()) for _ in range(2)])
    first, last = stages_of(pipeline(model, (X,), split_spec={"1": SplitPoint.BEGINNING}))
    assert [name for name, _ in first.named_modules()] == ["", "0", "0.0", "0.1", "0.2"]
    assert "Identity()" in repr(last)


@pytest.mark.parametrize("name", ["stages", "structure", "executor", "forward_"])
def test_a_models_attribute_may_have_any_name(name):
    model = nn.Sequential()
    model.add_module(name, nn.Linear(4, 4))
    pipe = pipeline(model, (X,))
    assert names_of(pipe) == [[f"{name}.bias", f"{name}.weight"]]
    torch.testing.assert_close(pipe(X)[0], model(X))


@pytest.mark.parametrize("name", ["graph", "code", "_graph"])
def test_but_for_those_that_graphs_have(name):
    model = nn.Sequential()
    model.add_module(name, nn.Linear(4, 4))
    with pytest.raises(
        PipeValueError, match=f"the model has an attribute '{name}'.*rename it, for example to '{name}_'"
    ):
        pipeline(model, (X,))


def test_a_model_without_memory_is_cut():
    with torch.device("meta"):
        model, x = Layers(0, 0, 1), torch.ones(2, 4)
        pipe = pipeline(model, (x,))
    assert stages_of(pipe)[1].get_parameter("layers.3.weight") is model.layers[3].weight
    assert pipe(x)[0].device.type == "meta"


def test_ways_to_share_have_their_names():
    assert [config.name for config in MultiUseParameterConfig] == ["TRANSMIT", "REPLICATE"]
