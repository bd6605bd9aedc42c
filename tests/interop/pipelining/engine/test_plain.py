"""DTensors are refused before anything runs."""

import pytest
import torch
from torch import nn
from torch.distributed.tensor import Shard, distribute_module

from funpipe.interop.pipelining import PipelineStage
from funpipe.interop.pipelining.errors import PipeliningMetadataError
from funpipe.interop.pipelining.schedules import ScheduleGPipe
from tests.interop.pipelining.meshes import fake_ranks, line, shard


def step(module, x):
    stage = PipelineStage(module, 0, 1, torch.device("cpu"))
    ScheduleGPipe(stage, 2, loss_fn=nn.functional.mse_loss, backend="interpret").step(x, target=torch.zeros(4, 2))


def test_arguments():
    with fake_ranks(1), pytest.raises(PipeliningMetadataError, match=r"DTensor detected: an argument.*to_local\(\)"):
        step(nn.Linear(2, 2), shard(4, Shard(0)))


def test_parameters():
    with fake_ranks(1), pytest.raises(RuntimeError, match="DTensor detected: parameter 'weight' of stage 0"):
        step(distribute_module(nn.Linear(2, 2), line()), torch.zeros(4, 2))
