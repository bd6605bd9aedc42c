"""Traced stages of models that are hard to cut, run by a schedule: gradients and buffers of the uncut model."""

import copy

import optree
import pytest
import torch
from torch import Tensor, nn

from funpipe.interop.pipelining import ScheduleInterleaved1F1B, pipe_split, pipeline
from tests.interop.pipelining._IR.models import Counting, Nested, Regions, Shared
from tests.interop.pipelining.model_registry import ModelWithKwargs

COUNT = 4
X = torch.arange(32.0).reshape(8, 4).sin()


class Between(nn.Module):
    """A model that returns a tensor, with a layer before it and one behind it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.before, self.model, self.behind = nn.Linear(4, 4), model, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.model(self.before(x)).float())


class InPlace(nn.Module):
    """A stage that begins by writing into what it gets from a region."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            x = x * 2
        pipe_split()
        return self.relu(x) + 1


class Mean(nn.Module):
    """The second stage needs the number of rows, which nothing that it computes with has."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        total = x.sum(0)
        pipe_split()
        return (total / rows).expand(rows, 4)


class Tree(nn.Module):
    """Nested arguments and results."""

    def __init__(self):
        super().__init__()
        self.model = Nested()

    def forward(self, x: Tensor) -> Tensor:
        return self.model({"x": x, "rest": (x.cos(), None)}, scale=x)["sum"]


@pytest.mark.parametrize("make", [Shared, Counting, InPlace, Mean, Tree])
def test_a_step_gives_the_gradients_and_buffers_of_the_uncut_model(make):
    model = Between(make())
    same = copy.deepcopy(model)
    losses: list[Tensor] = []
    schedule_of(model, X[:2]).step(X, target=X, losses=losses)
    torch.testing.assert_close(torch.stack(losses), expected_losses(same, X, X))
    assert_equal_gradients(model, same)
    torch.testing.assert_close(model.state_dict(), same.state_dict())


def test_regions_keep_their_modes():
    model = Between(Regions().eval())
    same = copy.deepcopy(model)
    losses: list[Tensor] = []
    schedule_of(model, X[:2]).step(X, target=X, losses=losses)
    torch.testing.assert_close(torch.stack(losses), expected_losses(same, X, X))
    assert_equal_gradients(model, same)


def test_trees_are_split_and_merged():
    model, batch = Nested(), {"x": X, "rest": (X.cos(), X[:, :1])}
    microbatch = optree.tree_map(lambda leaf: leaf[:2], batch)
    pipe = pipeline(model, (microbatch,), {"scale": X[:2]})
    stages = [pipe.build_stage(stage, "cpu") for stage in range(pipe.num_stages)]
    out = ScheduleInterleaved1F1B(stages, COUNT, backend="interpret").eval(batch, scale=X)
    expected = model(batch, scale=X)
    torch.testing.assert_close((out["sum"], out["parts"][0]), (expected["sum"], expected["parts"][0]))


@pytest.mark.parametrize("traced", [0, 1, 2])
@pytest.mark.parametrize("called", [0, 1, 2])
def test_arguments_may_come_by_position_or_by_name_however_they_were_traced(traced, called):
    model, values = ModelWithKwargs(4), {"x": X, "y": X.cos()}

    def given(positional: int, rows: int) -> tuple[list[Tensor], dict[str, Tensor]]:
        names = list(values)
        return [values[n][:rows] for n in names[:positional]], {n: values[n][:rows] for n in names[positional:]}

    args, kwargs = given(traced, 2)
    pipe = pipeline(model, tuple(args), kwargs)
    schedule = ScheduleInterleaved1F1B([pipe.build_stage(i, "cpu") for i in range(2)], COUNT, backend="interpret")
    args, kwargs = given(called, 8)
    torch.testing.assert_close(schedule.eval(*args, **kwargs), model(**values))


def mse(out: Tensor, target: Tensor) -> Tensor:
    return (out - target).square().mean()


def schedule_of(model: nn.Module, microbatch: Tensor) -> ScheduleInterleaved1F1B:
    """All stages on this rank."""
    pipe = pipeline(model, (microbatch,))
    assert pipe.num_stages > 1
    stages = [pipe.build_stage(stage, "cpu") for stage in range(pipe.num_stages)]
    return ScheduleInterleaved1F1B(stages, COUNT, loss_fn=mse, backend="interpret")


def expected_losses(model: nn.Module, batch: Tensor, target: Tensor) -> Tensor:
    """Of the microbatches in order, with gradients of their mean in the model."""
    losses = [mse(model(x), y) for x, y in zip(batch.chunk(COUNT), target.chunk(COUNT), strict=True)]
    torch.stack(losses).mean().backward()
    return torch.stack(losses).detach()


def assert_equal_gradients(model: nn.Module, same: nn.Module) -> None:
    expected = {name: parameter.grad for name, parameter in same.named_parameters()}
    for name, parameter in model.named_parameters():
        if expected[name] is not None:
            torch.testing.assert_close(parameter.grad, expected[name], msg=lambda text, name=name: f"{name}: {text}")
