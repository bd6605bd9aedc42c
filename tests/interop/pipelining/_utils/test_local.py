import torch
from torch import nn
from torch.distributed.tensor import Shard

from funpipe.interop.pipelining._utils import is_dtensor, to_local_if_dtensor
from tests.interop.pipelining.meshes import fake_ranks, shard


def test_a_plain_tensor_is_as_it_is():
    x = nn.Parameter(torch.ones(1))
    assert not is_dtensor(x) and to_local_if_dtensor(x) is x
    assert not to_local_if_dtensor(x, detach=True).requires_grad
    assert to_local_if_dtensor(None) is None and to_local_if_dtensor(3, detach=True) == 3


def test_of_a_dtensor_the_shard():
    with fake_ranks(2):
        tensor = nn.Parameter(shard(3, Shard(0)))
        assert is_dtensor(tensor)
        local = to_local_if_dtensor(tensor)
        assert type(local) is torch.Tensor and local.shape == (3, 2) and local.requires_grad
        assert not to_local_if_dtensor(tensor, detach=True).requires_grad
