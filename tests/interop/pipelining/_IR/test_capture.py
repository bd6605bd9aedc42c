"""Models that are not one graph: the error says which line."""

import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.distributed.tensor import Shard
from torch.nn import functional

from funpipe.interop.pipelining import ScheduleGPipe, ScheduleInterleaved1F1B, SplitPoint, pipeline
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
        pipeline(model, (torch.ones(2, device="meta"),))
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


@dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor
    inner: "Batch | None" = None


@dataclass
class Output:
    logits: torch.Tensor
    parts: dict


class Rows(nn.Linear):
    def forward(self, batch):
        return Output(super().forward(batch.x), {"y": batch.y + 1, "inner": Batch(batch.inner.x, batch.inner.y)})


def rows(count):
    return Batch(torch.ones(count, 2), torch.ones(count), Batch(torch.zeros(count, 2), torch.zeros(count)))


def check_rows(out):
    assert isinstance(out, Output) and out.logits.shape == (4, 2) and out.parts["y"].tolist() == [2.0] * 4
    assert isinstance(out.parts["inner"], Batch) and out.parts["inner"].y.tolist() == [0.0] * 4


def test_dataclasses_are_containers():
    check_rows(pipeline(Rows(2, 2), (rows(3),)).get_stage_module(0)(rows(4)))


def test_dataclasses_go_through_a_schedule():
    stage = pipeline(Rows(2, 2), (rows(2),)).build_stage(0, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, 2, loss_fn=lambda out, y: out.logits.sum() + y.sum(), backend="interpret")
    check_rows(schedule.step(rows(4), target=torch.ones(4)))


def test_torch_may_be_told_of_a_dataclass_before_and_after():
    @dataclass
    class Late(Output):
        pass

    class Returns(nn.Linear):
        def forward(self, x):
            return Late(super().forward(x), {"x": x})

    before = pipeline(Returns(2, 2), (torch.ones(3, 2),)).get_stage_module(0)
    torch.export.register_dataclass(Late)
    for stage in (before, pipeline(Returns(2, 2), (torch.ones(3, 2),)).get_stage_module(0)):
        out = stage(torch.ones(4, 2))
        assert isinstance(out, Late) and out.parts["x"].shape == (4, 2)


def test_stages_with_dataclasses_go_through_pickle():
    stage = pickle.loads(pickle.dumps(pipeline(Rows(2, 2), (rows(3),)).get_stage_module(0)))
    check_rows(stage(rows(4)))


class Speech(nn.Module):
    """Returns the loss of a sequence that is not aligned."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x, labels, steps, lengths):
        scores = self.head(self.body(x).tanh()).log_softmax(-1).transpose(0, 1)
        return functional.ctc_loss(scores, labels, steps, lengths)


def speech(seed):
    """Two rows, of which the second has fewer labels."""
    x = torch.randn(2, 10, 5, generator=torch.Generator().manual_seed(seed))
    return x, torch.tensor([[1, 2, 3], [2, 3, 0]]), torch.tensor([10, 9]), torch.tensor([3, 2])


def test_the_ctc_loss_trains():
    model, whole = Speech(), Speech()
    whole.load_state_dict(model.state_dict())
    pipe = pipeline(model, speech(0), split_spec={"head": SplitPoint.BEGINNING})
    stages = [pipe.build_stage(i, torch.device("cpu")) for i in range(2)]
    schedule = ScheduleInterleaved1F1B(stages, 1, loss_fn=lambda out, target: out, backend="interpret")
    schedule.step(arg_mbs=[speech(1)], target_mbs=[torch.zeros(1)])
    whole(*speech(1)).backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], [p.grad for p in whole.parameters()])


def test_torch_compile_does_with_the_ctc_loss_what_it_does_without_us():
    # A fake form of the operator for the whole process makes the backward read memory of another shape.
    x, *rest = speech(2)
    compiled = torch.compile(Speech(), backend="aot_eager")
    compiled(x, *rest).backward()
    assert all(p.grad is not None for p in compiled.parameters())
