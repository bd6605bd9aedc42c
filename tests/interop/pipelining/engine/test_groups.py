"""Two pipelines side by side, each on a part of all processes: the loop over both halves of the data."""

import copy

import torch
import torch.distributed as dist
from torch import nn

import funpipe as fp
from funpipe.interop.pipelining import PipelineStage, ScheduleGPipe
from tests.interop.pipelining.engine.pipelines import batch, eager, layers


def replicas():
    """On each rank: the largest error of a gradient, averaged over the replicas as users do."""
    torch.set_num_threads(1)
    everybody = fp.mesh(pp=2, dp=2, device="cpu", same_host="network")
    group = everybody.device_mesh.get_group("pp")
    half, rank = divmod(dist.get_rank(), 2)
    first, middle, last = layers()
    first[1].eval()
    modules = [nn.Sequential(first, middle), last]
    plain = copy.deepcopy(modules)
    stage = PipelineStage(modules[rank], rank, 2, torch.device("cpu"), group=group)
    schedule = ScheduleGPipe(stage, 4, loss_fn=nn.functional.cross_entropy, backend="interpret")
    x, y = batch(16)
    schedule.step(*((x.chunk(2)[half],) if rank == 0 else ()), target=y.chunk(2)[half] if rank else None)
    eager(plain, x, y)
    errors = []
    for ours, theirs in zip(modules[rank].parameters(), plain[rank].parameters(), strict=True):
        dist.all_reduce(ours.grad, group=everybody.device_mesh.get_group("dp"))
        errors.append((ours.grad / 2 - theirs.grad).abs().max().item())
    return max(errors)


def test_a_pipeline_may_be_a_part_of_all_processes():
    assert max(fp.launch(replicas, 4)) < 1e-6
