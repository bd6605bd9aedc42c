"""What a policy says about leaves, and what it refuses."""

import pytest
import torch

from funpipe._errors import FunpipeTypeError
from funpipe._typing import TensorType
from funpipe.functional.precision import DynamicScale, Precision, bf16, fp16, pure_bf16, resolve_precision


def kinds(**dtypes):
    return {name: TensorType((2,), (1,), dtype) for name, dtype in dtypes.items()}


def test_only_floating_point_leaves_change():
    types = kinds(w=torch.float64, ids=torch.int64, mask=torch.bool, z=torch.complex64)
    kept = bf16.kept_types(types)
    assert [kept[n].dtype for n in types] == [torch.float32, torch.int64, torch.bool, torch.complex64]
    computed = bf16.computed_types(kept)
    assert [computed[n].dtype for n in types] == [torch.bfloat16, torch.int64, torch.bool, torch.complex64]


def test_none_leaves_dtypes_as_they_are():
    policy = Precision(params=None, compute=None, reduce=None, output=None)
    assert policy.kept(torch.float64) == policy.computed("w", torch.float64) == torch.float64
    assert policy.reduced(torch.float16) == torch.float16


def test_leaves_that_are_kept_apart_by_a_part_of_their_name_or_a_function():
    policy = Precision(keep={"norm": torch.float32})
    assert policy.computed("layers.0.norm.weight", torch.float32) == torch.float32
    assert policy.computed("layers.0.weight", torch.float32) == torch.bfloat16
    chosen = Precision(keep=lambda name: torch.float64 if name == "w" else None)
    assert (chosen.computed("w", torch.float32), chosen.computed("v", torch.float32)) == (torch.float64, torch.bfloat16)


def test_shapes_as_they_are_kept_stay_trained_or_frozen():
    tree = {"w": torch.ones(2, dtype=torch.float64, requires_grad=True), "v": torch.ones(3)}
    found = bf16.kept_shapes(tree)
    assert (found["w"].dtype, found["w"].requires_grad, found["w"].device.type) == (torch.float32, True, "meta")
    assert (found["v"].dtype, found["v"].requires_grad) == (torch.float32, False)


@pytest.mark.parametrize(("given", "wanted"), [("bf16", bf16), ("fp16", fp16), ("pure_bf16", pure_bf16), (None, None)])
def test_presets_have_names(given, wanted):
    assert resolve_precision(given) is wanted
    assert resolve_precision(wanted) is wanted


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: resolve_precision("fp8"), r"precision is 'fp8'; use one of 'bf16', 'fp16', 'pure_bf16', or fp\.Prec"),
        (lambda: Precision(compute=torch.int8), r"compute is torch\.int8; pass a floating-point dtype"),
        (lambda: Precision(params="fp32"), r"params is 'fp32'; pass a floating-point dtype, such as params=torch\.f"),
        (lambda: Precision(keep={"norm": torch.int64}), r"keep\['norm'\] is torch\.int64"),
        (lambda: Precision(keep="norm"), r"keep is 'norm'; pass a dict"),
        (lambda: Precision(loss_scale=True), r"loss_scale is True; pass \"dynamic\""),
        (lambda: Precision(loss_scale="static"), r"loss_scale is 'static'; pass \"dynamic\", fp\.DynamicScale"),
    ],
)
def test_what_is_no_policy(make, text):
    with pytest.raises(FunpipeTypeError, match=text):
        make()


def test_a_number_is_a_scale_that_never_changes():
    assert Precision(loss_scale=128).scale == DynamicScale(init=128.0, factor=1.0, window=1)
    assert not Precision(loss_scale=128).scale.adapts
    assert fp16.scale == DynamicScale()
    assert bf16.scale is None
