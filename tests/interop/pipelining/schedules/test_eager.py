"""Stages of which no program can be made run in eager mode."""

import copy

import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe.interop.pipelining import PipelineStage, ScheduleGPipe, ScheduleInterleaved1F1B, SplitPoint, pipeline
from funpipe.interop.pipelining.errors import Untraceable


class Picks(nn.Module):
    """Keeps the rows whose first value is positive: how many is data."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x, keep):
        return self.last(self.first(x)[keep])


X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
KEEP = torch.tensor([True, False, True, True, False, False, False, True])


def loss_fn(out, target):
    return out.square().sum()


def wanted(model):
    """The gradients of the mean over two microbatches, on a copy."""
    plain = copy.deepcopy(model)
    for x, keep in zip(X.chunk(2), KEEP.chunk(2), strict=True):
        (loss_fn(plain(x, keep), None) / 2).backward()
    return [p.grad for p in plain.parameters()]


def schedule_of(model, **more):
    pipe = pipeline(model, (X[:4], KEEP[:4]), split_spec={"last": SplitPoint.BEGINNING})
    stages = [pipe.build_stage(stage, torch.device("cpu")) for stage in range(2)]
    return ScheduleInterleaved1F1B(stages, 2, loss_fn=loss_fn, backend="interpret", **more)


def test_sizes_that_are_data_train_and_it_is_said_once():
    model = Picks()
    schedule, losses = schedule_of(model), []
    with pytest.warns(UserWarning, match=r"in eager mode, .*slower.*reads a tensor's value"):
        out = schedule.step(X, KEEP, target=torch.zeros(8), losses=losses)
    assert out.shape == (4, 1) and len(losses) == 2
    torch.testing.assert_close([p.grad for p in model.parameters()], wanted(model))
    model.zero_grad()
    schedule.step(X, KEEP, target=torch.zeros(8))
    torch.testing.assert_close([p.grad for p in model.parameters()], wanted(model))


def test_it_evaluates_too():
    model = Picks()
    with pytest.warns(UserWarning, match="in eager mode"):
        out = schedule_of(model).eval(X, KEEP)
    torch.testing.assert_close(out, model(X, KEEP).detach())
    assert all(p.grad is None for p in model.parameters())


def test_manual_stages_may_branch_on_data():
    class Branch(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else -super().forward(x)

    model = Branch(3, 1)
    schedule = ScheduleGPipe(PipelineStage(model, 0, 1, torch.device("cpu")), 2, loss_fn=loss_fn, backend="interpret")
    with pytest.warns(UserWarning, match="in eager mode"):
        out = schedule.step(X, target=torch.zeros(8))
    torch.testing.assert_close(out, torch.cat([model(x) for x in X.chunk(2)]).detach())


def test_an_optimizer_of_the_step_needs_a_program():
    with pytest.raises(Untraceable, match=r"\[Stage 0\] failed to run forward: .*reads a tensor's value"):
        schedule_of(Picks(), optimizer=fp.optim.sgd(0.1)).step(X, KEEP, target=torch.zeros(8))
