"""Models that are not one graph: the error says which line."""

import pytest
import torch
from torch import nn
from torch.distributed.tensor import Shard

from funpipe.interop.pipelining import pipeline
from funpipe.interop.pipelining.errors import PipeliningMetadataError, PipeRuntimeError
from tests.interop.pipelining.meshes import fake_ranks, shard


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return x * 2


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = Branch()

    def forward(self, x):
        return self.branch(x)


@pytest.mark.parametrize("model", [Branch(), Inner()])
def test_the_line_that_cannot_be_captured_is_named(model):
    text = (
        r"^It seems that we cannot capture your model as a full graph\. .* at .*test_capture\.py:\d+ in forward, "
        r"code: if x\.sum\(\) > 0:: .*torch\.where.*PipelineStage\.$"
    )
    with pytest.raises(PipeRuntimeError, match=text) as raised:
        pipeline(model, (torch.ones(2),))
    assert raised.value.__cause__ is not None


def test_a_models_own_error_is_told():
    with pytest.raises(PipeRuntimeError, match=r"full graph\. RuntimeError in torch: .*\[2, 4\]"):
        pipeline(nn.Linear(3, 3), (torch.ones(2, 4),))


def test_the_example_is_left_as_it_was():
    x = torch.ones(3, 2, requires_grad=True)
    pipeline(nn.Linear(2, 2), (x,))
    assert vars(x) == {}


def test_one_tensor_for_two_arguments_is_two_arguments():
    class Difference(nn.Module):
        def forward(self, x, y):
            return x - y

    x = torch.ones(3)
    assert pipeline(Difference(), (x, x))(x, x * 3)[0].tolist() == [-2.0, -2.0, -2.0]


def test_dtensors_are_refused():
    model = nn.Linear(2, 2)
    with fake_ranks(2):
        spread = shard(1, Shard(0))
        with pytest.raises(PipeliningMetadataError, match="DTensor detected in traced pipeline: an argument is one"):
            pipeline(model, (spread,))
        model.weight = nn.Parameter(spread)
        with pytest.raises(PipeliningMetadataError, match="in traced pipeline: 'weight' is one"):
            pipeline(model, (torch.ones(1, 2),))
