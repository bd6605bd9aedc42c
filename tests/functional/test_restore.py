import pytest
import torch
from torch import nn

from funpipe._errors import TreeError
from funpipe.functional.functionalize import functionalize
from funpipe.functional.restore import restore


def model():
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def tied():
    module = nn.ModuleDict({"wte": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    module["head"].weight = module["wte"].weight
    return module


def test_round_trip_between_two_modules():
    source, target = model(), model()
    source(torch.randn(5, 3))
    apply, params, buffers = functionalize(source)
    assert restore(target, params, buffers) is target
    x = torch.randn(5, 3)
    assert torch.equal(target.eval()(x), source.eval()(x))
    assert target[1].num_batches_tracked == 1


def test_values_are_copied_and_objects_stay():
    module = model()
    weight = module[0].weight
    _, params, buffers = functionalize(module)
    new = {name: torch.full_like(p, 2) for name, p in params.items()}
    restore(module, new, buffers)
    new["0.weight"].zero_()
    assert module[0].weight is weight
    assert weight.requires_grad
    assert weight.is_leaf
    assert bool((weight == 2).all())


def test_a_tied_leaf_is_restored_under_all_its_names():
    module = tied()
    _, params, buffers = functionalize(module)
    restore(module, {"wte.weight": torch.ones(5, 4)}, buffers)
    assert module["head"].weight is module["wte"].weight
    assert bool((module["head"].weight == 1).all())


def test_nothing_is_copied_when_something_is_wrong():
    module = model()
    before = module[0].weight.detach().clone()
    _, params, buffers = functionalize(module)
    new = {name: torch.full_like(p, 2) for name, p in params.items()}
    with pytest.raises(TreeError, match=r"buffers: missing '1\.running_mean'"):
        restore(module, new, {k: v for k, v in buffers.items() if "mean" not in k})
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "0.bias",
            torch.ones(4),
            r"params: leaf '0\.bias' is float32\[4\], but float32\[3\] was expected; pass a leaf",
        ),
        (
            "0.bias",
            torch.ones(3, dtype=torch.float64),
            r"leaf '0\.bias' is float64\[3\], but float32\[3\] was expected",
        ),
        ("0.bais", torch.ones(3), r"params: unknown leaf '0\.bais'; the nearest names are '0\.bias'"),
        ("0.bias", torch.ones(3, device="meta"), r"params: '0\.bias' is on the meta device.*pass a real tensor\."),
        ("0.bias", 3.0, r"params: leaf '0\.bias' is of type float, not a tensor"),
    ],
)
def test_wrong_leaves_are_named(name, value, message):
    module = model()
    _, params, buffers = functionalize(module)
    with pytest.raises(TreeError, match=message):
        restore(module, {**params, name: value}, buffers)


def test_a_tied_name_is_refused():
    module = tied()
    _, params, buffers = functionalize(module)
    with pytest.raises(TreeError, match=r"'head\.weight' is tied to 'wte\.weight'.*pass it as 'wte\.weight' only\."):
        restore(module, {**params, "head.weight": params["wte.weight"]}, buffers)


def test_a_module_without_memory():
    _, params, buffers = functionalize(model())
    with pytest.raises(
        TreeError, match=r"module: '0\.weight' is on the meta device.*call module\.to_empty\(device=\.\.\.\)"
    ):
        restore(model().to("meta"), params, buffers)


def test_a_module_given_memory():
    source = model()
    _, params, buffers = functionalize(source)
    target = restore(model().to("meta").to_empty(device="cpu"), params, buffers)
    assert torch.equal(target[0].weight, source[0].weight)
