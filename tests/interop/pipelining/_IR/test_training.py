"""What differs between training and evaluating: dropout and batch norm follow their modules."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funpipe.interop.pipelining import SplitPoint, pipeline
from tests.interop.pipelining._IR.helpers import seeded, stages_of
from tests.interop.pipelining._IR.models import Noisy, Regions

IMAGES = torch.arange(24.0).reshape(2, 3, 4).sin()


@pytest.mark.parametrize("training", [True, False])
def test_a_pipe_computes_what_the_model_does_in_its_mode_and_after_eval(training):
    model = Noisy().train(training)
    same = copy.deepcopy(model)
    pipe = pipeline(model, (IMAGES,))
    torch.testing.assert_close(seeded(pipe, IMAGES)[0], seeded(same, IMAGES))
    torch.testing.assert_close(pipe.eval()(IMAGES)[0], same.eval()(IMAGES))
    torch.testing.assert_close(model.state_dict(), same.state_dict())
    assert model.training == training


def test_train_starts_what_was_not_running_when_it_was_traced():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    x = torch.arange(32.0).reshape(8, 4)
    pipe, same = pipeline(model, (x,)).train(), copy.deepcopy(model).train()
    torch.testing.assert_close(seeded(pipe, x)[0], seeded(same, x))
    torch.testing.assert_close(model.state_dict(), same.state_dict())
    assert model[1].num_batches_tracked == 1


def test_one_submodule_can_be_frozen():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    pipe = pipeline(model, (torch.eye(4),))
    stages_of(pipe)[0].get_submodule("1").eval()
    pipe(torch.eye(4))
    assert [norm.num_batches_tracked.item() for norm in model] == [1, 0]


def test_a_frozen_submodule_is_frozen_in_its_stage():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    model[0].eval()
    pipeline(model, (torch.eye(4),))(torch.eye(4))
    assert [norm.num_batches_tracked.item() for norm in model] == [0, 1]


def test_a_norm_without_statistics_takes_the_batchs_in_both_modes():
    model = nn.BatchNorm1d(4, track_running_stats=False)
    x = torch.arange(12.0).reshape(3, 4)
    pipe = pipeline(model, (x,)).eval()
    torch.testing.assert_close(pipe(x)[0], model.eval()(x))


def test_dropout_that_the_model_always_wants_stays():
    class Always(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, training=True)

    pipe = pipeline(Always().eval(), (torch.ones(64),)).eval()
    assert 0 in pipe(torch.ones(64))[0]


def test_regions_follow_their_modules_too():
    model = Regions()
    x = torch.arange(8.0).reshape(2, 4).sin()
    pipe, same = pipeline(model, (x,)), copy.deepcopy(model)
    torch.testing.assert_close(seeded(pipe, x)[0], seeded(same, x))
    torch.testing.assert_close(pipe.eval()(x)[0], same.eval()(x))
    first, second = stages_of(pipe)
    assert (first(x).requires_grad, second(x).dtype) == (False, torch.bfloat16)


def test_tracing_does_not_run_the_model():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    pipeline(model, (torch.ones(2, 4),))
    assert model[1].num_batches_tracked == 0


def test_the_callers_grad_mode_is_not_taken_up():
    model = nn.Linear(4, 4)
    with torch.no_grad():
        pipe = pipeline(model, (torch.ones(2, 4),))
    assert pipe(torch.ones(2, 4))[0].requires_grad


def test_a_model_is_the_same_under_no_grad_and_while_training():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

        def forward(self, x, scale=1.0, flag=None):
            with torch.no_grad():
                angles = torch.arange(4.0).cos()[None]
            return self.drop(self.layer(x) * angles) * scale

    torch.manual_seed(0)
    model, x = nn.Sequential(Block(), Block()), torch.randn(5, 4)
    with torch.no_grad():
        pipe = pipeline(model, (x[:2],), split_spec={"1": SplitPoint.BEGINNING})
    torch.testing.assert_close(seeded(pipe, x)[0], seeded(model, x))
    pipe(x)[0].sum().backward()
    assert all(p.grad is not None for p in model.parameters())
