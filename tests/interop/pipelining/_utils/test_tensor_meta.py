import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import _utils as theirs
from torch.distributed.tensor import Shard

from funpipe.interop.pipelining._utils import (
    PipeliningMetadataError,
    _derive_grad_metas,
    _make_tensor_from_meta,
    _TensorMeta,
)
from tests.interop.pipelining.meshes import fake_ranks, shard


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(1, 3), max_size=3))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int64]))
    tensor = torch.zeros(shape, dtype=dtype).permute(draw(st.permutations(range(len(shape)))))
    return tensor.requires_grad_(dtype.is_floating_point and draw(st.booleans()))


@given(tensors())
def test_a_tensor_made_anew_is_like_the_first(tensor):
    meta = _TensorMeta.from_tensor(tensor)
    assert _TensorMeta.from_tensor(meta.to_tensor("cpu")) == meta
    assert pickle.loads(pickle.dumps(meta)) == meta
    assert not _make_tensor_from_meta(meta, "cpu").requires_grad


@given(tensors(), tensors())
def test_differences_are_those_that_torch_names(a, b):
    ours = _TensorMeta.from_tensor(a).get_diff(_TensorMeta.from_tensor(b))
    assert ours == theirs._TensorMeta.from_tensor(a).get_diff(theirs._TensorMeta.from_tensor(b))


def test_gradients_are_like_the_tensors_that_require_them():
    wanted, other = torch.ones(2, 3).t().requires_grad_(), torch.ones(1)
    metas = tuple(_TensorMeta.from_tensor(tensor) for tensor in (wanted, other))
    grad, none = _derive_grad_metas(metas)
    assert none is None
    assert (grad.shape, grad.stride, grad.requires_grad) == ((3, 2), (1, 3), False)


def test_a_dtensor_has_more_to_say():
    with fake_ranks(2), pytest.raises(PipeliningMetadataError, match="got DTensor; use _DTensorMeta.from_dtensor"):
        _TensorMeta.from_tensor(shard(1, Shard(0)))
