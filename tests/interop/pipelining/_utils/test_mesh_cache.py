import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard

from funpipe.interop.pipelining._utils import MeshLayout, PipeliningMetadataError, _MeshCache
from funpipe.interop.pipelining._utils.mesh_layout import key_of
from tests.interop.pipelining.meshes import fake_ranks, line, shard, square


@pytest.fixture(autouse=True, scope="module")
def ranks():
    with fake_ranks(4):
        yield


def test_a_layout_is_how_far_ranks_are_from_the_first():
    assert MeshLayout.of(line()) == MeshLayout(((0, 1, 2, 3),))
    assert MeshLayout.of(square()) == MeshLayout(((0, 2), (0, 1)))
    assert MeshLayout.of(DeviceMesh("cpu", [[0, 2], [1, 3]])) == MeshLayout(((0, 1), (0, 2)))
    assert MeshLayout.of(square()["tp"]) == MeshLayout(((0, 1),))


def test_the_meshes_of_tensors_are_kept():
    cache, tensor = _MeshCache(), shard(1, Shard(0))
    cache.update_from_tensors((tensor, None, torch.ones(1)))
    assert len(cache) == 1 and key_of(line()) in cache
    assert cache.get_mesh(key_of(line())) is tensor.device_mesh


def test_the_callback_is_asked_once():
    asked, mesh = [], square()
    cache = _MeshCache(lambda names, layout: asked.append((names, layout)) or mesh)
    assert cache.get_mesh(key_of(mesh)) is mesh and cache.get_mesh(key_of(mesh)) is mesh
    assert asked == [(("dp", "tp"), MeshLayout(((0, 2), (0, 1))))]


def test_a_mesh_may_be_put():
    cache, mesh = _MeshCache(), line()
    cache.put((("tp",), None), mesh)
    assert cache.get_mesh((("tp",), None)) is mesh


def test_without_a_callback_it_says_what_to_pass():
    with pytest.raises(
        PipeliningMetadataError, match=r"not found in cache for mesh_dim_names=\('tp',\).*pass get_mesh to"
    ):
        _MeshCache().get_mesh(key_of(line()))


@pytest.mark.parametrize("wrong", [lambda: None, lambda: line("dp"), square])
def test_a_callback_that_gives_another_mesh_is_an_error(wrong):
    with pytest.raises(
        PipeliningMetadataError, match="Mesh lookup failed: callback returned .*; return the mesh of these"
    ):
        _MeshCache(lambda names, layout: wrong()).get_mesh(key_of(line()))
