import pytest
import torch
from torch.distributed.tensor import Replicate, Shard

from funpipe import FunpipeError
from funpipe.interop.pipelining._utils import (
    PipeliningMetadataError,
    extract_tensor_meta,
    extract_tensor_metas,
    validate_metadata,
    validate_tensors_metadata,
)
from tests.interop.pipelining.meshes import fake_ranks, shard

x = torch.ones(4, 3)
expected = extract_tensor_meta(x)


@pytest.mark.parametrize(
    ("actual", "text"),
    [
        (torch.ones(2, 3), r"shape mismatch: torch.Size\(\[4, 3\]\) vs torch.Size\(\[2, 3\]\)"),
        (torch.ones(3, 4).t(), r"stride mismatch: \(3, 1\) vs \(1, 4\)"),
        (x.double(), "dtype mismatch: torch.float32 vs torch.float64"),
        (torch.ones(2, 3).double(), "shape mismatch: .*; dtype mismatch: "),
    ],
)
def test_a_mismatch_is_told_as_it_is_wanted(actual, text):
    found = validate_metadata("input 0", expected, actual)
    assert found and all(" mismatch: " in difference for difference in found)
    with pytest.raises(PipeliningMetadataError, match=f"input 0: {text}.*; pass tensors like") as raised:
        validate_metadata("input 0", expected, actual, raise_on_mismatch=True)
    assert isinstance(raised.value, FunpipeError) and isinstance(raised.value, RuntimeError)
    with pytest.warns(UserWarning, match=f"input 0: {text}"):
        assert validate_metadata("input 0", expected, actual, warn_on_mismatch=True) == found


def test_a_match_is_silent():
    assert validate_metadata("x", expected, x, raise_on_mismatch=True, warn_on_mismatch=True) == []
    assert validate_metadata("x", expected, expected, raise_on_mismatch=True) == []
    assert validate_tensors_metadata("x", (expected, None), (x, None)) == []


def test_requiring_a_gradient_is_no_mismatch():
    assert validate_metadata("x", expected, x.clone().requires_grad_(), raise_on_mismatch=True) == []


def test_a_dtensor_is_not_a_plain_tensor():
    with fake_ranks(2):
        found = validate_metadata("x", expected, shard(4, Shard(0), columns=3))
        replicated = extract_tensor_meta(shard(4, Replicate()))
        assert "placements mismatch" in " ".join(validate_metadata("x", replicated, shard(2, Shard(0))))
    assert found == ["type: expected _TensorMeta, got _DTensorMeta"]


@pytest.mark.parametrize(
    ("wanted", "actual", "text"),
    [
        ((x,), (x, x), "inputs: expected 1 tensors, got 2"),
        ((x, None), (x, x), r"inputs\[1\]: expected None, got metadata"),
        ((x, x), (x, None), r"inputs\[1\]: expected metadata, got None"),
        ((x, x), (x, x.double()), r"inputs\[1\]: dtype mismatch: "),
    ],
)
def test_the_tensor_that_differs_is_named(wanted, actual, text):
    metas = extract_tensor_metas(wanted, allow_none=True)
    with pytest.raises(PipeliningMetadataError, match=text):
        validate_tensors_metadata("inputs", metas, actual)
    with pytest.warns(UserWarning, match=text):
        found = validate_tensors_metadata("inputs", metas, actual, raise_on_mismatch=False, warn_on_mismatch=True)
    assert len(found) == 1


def test_all_differences_are_returned():
    found = validate_tensors_metadata("x", (expected, expected), (x.double(), x[:1]), raise_on_mismatch=False)
    assert [text.split()[0] for text in found] == ["dtype", "shape"]
