import pytest
from torch import nn

from funpipe.interop.transformers import layers_of
from tests.interop.transformers.small import tagger


def blocks(count):
    return nn.ModuleList(nn.Linear(2, 2) for _ in range(count))


def test_layers_are_the_outermost_lists_in_the_models_order():
    model = nn.ModuleDict({"encoder": nn.ModuleDict({"block": blocks(2)}), "decoder": nn.ModuleDict({"h": blocks(3)})})
    assert layers_of(model) == ("encoder.block.0", "encoder.block.1", "decoder.h.0", "decoder.h.1", "decoder.h.2")
    assert layers_of(tagger()) == tuple(f"layers.{i}" for i in range(4))


def test_lists_in_layers_count_where_there_are_too_few():
    assert layers_of(tagger(layers=2), 3) == tuple(f"layers.{i}.experts.{k}" for i in range(2) for k in range(2))
    assert layers_of(tagger(layers=2), 99) == layers_of(tagger(layers=2), 3)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
        blocks(1),
        nn.ModuleList(nn.ReLU() for _ in range(3)),
        nn.ModuleList([blocks(1), blocks(1)]),
        nn.Linear(2, 2),
    ],
)
def test_one_module_or_several_kinds_or_without_parameters_are_no_layers(model):
    assert layers_of(model) == ()


def test_lists_of_lists_are_looked_into():
    assert layers_of(nn.ModuleList([blocks(2), blocks(2)])) == ("0.0", "0.1", "1.0", "1.1")
