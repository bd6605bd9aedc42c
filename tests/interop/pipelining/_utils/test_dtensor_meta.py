import pickle

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard

from funpipe.interop.pipelining._utils import (
    MeshLayout,
    _derive_grad_metas,
    _DTensorMeta,
    extract_tensor_metas,
)
from tests.interop.pipelining.meshes import fake_ranks, shard, square


@pytest.fixture(autouse=True, scope="module")
def ranks():
    with fake_ranks(4):
        yield


def test_it_knows_the_shard_and_the_whole():
    meta = _DTensorMeta.from_dtensor(shard(2, Shard(0), Replicate(), mesh=square(), columns=3))
    assert (meta.shape, meta.global_shape, meta.global_stride) == ((2, 3), (4, 3), (3, 1))
    assert (meta.placements, meta.mesh_dim_names) == ((Shard(0), Replicate()), ("dp", "tp"))
    assert meta.mesh_cache_key == (("dp", "tp"), MeshLayout(((0, 2), (0, 1))))


def test_it_can_be_sent():
    meta = _DTensorMeta.from_dtensor(shard(2, Shard(0)))
    assert pickle.loads(pickle.dumps(meta)) == meta


@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_dtensor_made_anew_is_like_the_first(requires_grad):
    tensor = nn.Parameter(shard(2, Shard(1)), requires_grad=requires_grad)
    meta = _DTensorMeta.from_dtensor(tensor)
    made = meta.to_dtensor("cpu", tensor.device_mesh)
    assert isinstance(made, DTensor) and _DTensorMeta.from_dtensor(made) == meta
    assert type(meta.to_tensor("cpu")) is torch.Tensor


def test_differences_of_the_whole_and_of_the_mesh_are_named():
    rows, columns = (_DTensorMeta.from_dtensor(shard(2, Shard(dim))) for dim in (0, 1))
    assert [text.split()[0] for text in rows.get_diff(columns)] == ["global_shape", "global_stride", "placements"]
    on_square = _DTensorMeta.from_dtensor(shard(2, Shard(0), Replicate(), mesh=square()))
    assert "mesh_dim_names mismatch: ('tp',) vs ('dp', 'tp')" in rows.get_diff(on_square)


def test_a_plain_tensor_is_of_another_type():
    dtensor, plain = extract_tensor_metas((shard(2, Shard(0)), torch.zeros(2, 2)))
    assert dtensor.get_diff(plain) == ["type: _DTensorMeta vs _TensorMeta"]


def test_its_gradient_may_be_placed_otherwise():
    meta = _DTensorMeta.from_dtensor(nn.Parameter(shard(2, Shard(0))))
    assert meta.requires_grad and _derive_grad_metas((meta,)) == (None,)
