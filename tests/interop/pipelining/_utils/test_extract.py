import pytest
import torch
from torch.distributed.tensor import Shard

from funpipe.interop.pipelining._utils import (
    PipeliningMetadataError,
    _DTensorMeta,
    _TensorMeta,
    extract_tensor_meta,
    extract_tensor_metas,
)
from tests.interop.pipelining.meshes import fake_ranks, shard

x = torch.ones(2, 3)


def test_of_tensors_of_either_kind():
    with fake_ranks(2):
        metas = extract_tensor_metas([x, shard(1, Shard(0))])
    assert [type(meta) for meta in metas] == [_TensorMeta, _DTensorMeta]


def test_nothing_stays_nothing():
    assert extract_tensor_metas(None) is None
    assert extract_tensor_metas((x, None), allow_none=True) == (_TensorMeta.from_tensor(x), None)


def test_one_tensor_is_not_taken_for_its_rows():
    assert extract_tensor_metas(x) == (_TensorMeta.from_tensor(x),)


def test_what_is_no_tensor_is_an_error():
    with pytest.raises(
        PipeliningMetadataError, match="None values are not allowed among tensors; pass allow_none=True"
    ):
        extract_tensor_metas((x, None))
    with pytest.raises(PipeliningMetadataError, match="Expected a tensor, got int; pass tensors only"):
        extract_tensor_meta(3)
