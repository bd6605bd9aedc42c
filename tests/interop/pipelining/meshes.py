"""Meshes of four ranks in one process: nothing is sent, every rank's part is made by hand."""

from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextmanager
def fake_ranks(count=4):
    """A process group in which this process is the first of some ranks."""
    dist.init_process_group("fake", rank=0, world_size=count, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def line(name="tp"):
    """All ranks in one dimension."""
    return init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=(name,))


def square():
    """Four ranks in two dimensions."""
    return init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))


def shard(rows, *placements, mesh=None, columns=2):
    """A DTensor of which this rank has so many rows; its values count from 0."""
    local = torch.arange(float(rows * columns)).view(rows, columns)
    return DTensor.from_local(local, mesh or line(), placements, run_check=False)


def ragged(rows, all_rows, *placements, mesh=None):
    """A DTensor of which this rank has `rows` of `all_rows`, and the last ranks may have fewer."""
    local = torch.ones(rows, 2)
    whole = {"shape": torch.Size((all_rows, 2)), "stride": (2, 1)}
    return DTensor.from_local(local, mesh or line(), placements, run_check=False, **whole)
