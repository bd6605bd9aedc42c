"""A user's mistake is one clear error that ends with the remedy, before anything runs."""

import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe._errors import (
    BatchError,
    FunpipeError,
    FunpipeTypeError,
    MeshError,
    PassError,
    ScheduleError,
    StageError,
    TraceError,
    TreeError,
)
from tests.api.models import batch_of, loss_fn, params_of, step_of


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"backend": "inductor"}, FunpipeError, "no backend 'inductor'; use one of 'interpret', 'regions', 'step'"),
        ({"numerics": "close"}, FunpipeTypeError, "numerics is 'close'; use one of 'exact', 'fast'"),
        ({"buffers": "sum"}, FunpipeTypeError, "buffers is 'sum'; use one of 'first', 'mean'"),
        ({"num_microbatches": 0}, BatchError, "the number of microbatches is 0; pass an int of at least 1"),
        ({"num_microbatches": 2.0}, BatchError, "the number of microbatches is 2.0; pass an int"),
        ({"mesh": 2}, FunpipeTypeError, r"mesh is 2, of type int; pass mesh=fp\.mesh\(pp=\.\.\., dp="),
        (
            {"optimizer": torch.optim.SGD},
            FunpipeTypeError,
            r"the optimizer is of type type; pass one of funpipe\.optim",
        ),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(options, error, text):
    with pytest.raises(error, match=text):
        step_of(**options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"schedule": "1b1f"}, ScheduleError, "no schedule is named '1b1f'; .* nearest: .*1f1b"),
        ({"stages": "two"}, FunpipeTypeError, "stages is 'two'; pass the number of stages"),
        ({"stages": 0}, StageError, "balanced got 0 stages; pass an int of at least 1"),
        ({"stages": 99}, StageError, r"balanced\(99\) asks for more stages than .* Ask for at most that many"),
        (
            {"schedule": fp.schedules.GPipe().table(4, 4)},
            ScheduleError,
            "num_stages=4.* 2 stages on no number of ranks",
        ),
        ({"schedule": fp.schedules.GPipe().table(2, 3)}, ScheduleError, "num_microbatches=3 only, not 4; use num_mic"),
        ({"passes": fp.passes.rebucket}, PassError, r"rebucket is no pass: .* as in passes\.bucket\(\)"),
        ({"passes": fp.passes.bucket()}, PassError, r"'bucket' takes a Graph, .* pass what .* as_graph\(\) gives"),
        ({"batch_spec": {"x": 0}}, BatchError, "batch_spec {'x': 0} is no prefix of the batch"),
        ({"batch_spec": {"x": 2, "y": 0}}, BatchError, r"leaf 'x' \(float32\[8,5\]\) has no dimension 2"),
        (
            {"num_microbatches": 3},
            BatchError,
            "8 rows along dimension 0, which 3 microbatches do not divide; use 2 or 4",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_init(options, error, text):
    with pytest.raises(error, match=text):
        step_of(**options).init(params_of(), batch_of())


def test_an_unknown_module_names_the_nearest():
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    apply, params, _ = fp.functionalize(nn.ModuleDict({"layers": module}))

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = module

        def forward(self, x):
            return self.layers(x)

    apply, params, _ = fp.functionalize(Wrapped())
    step = step_of(lambda p, b: apply(p, {}, b["x"])[0].mean(), stages=fp.stages.split_at({"layer.2": "beginning"}))
    with pytest.raises(StageError, match=r"'layer\.2'.*'layers\.2'"):
        step.init(params, batch_of())


def test_an_empty_stage_is_an_error():
    def loss(params, batch):
        return fp.mark_stage_end(fp.mark_stage_end(batch["x"] @ params["w"])).mean()

    with pytest.raises(StageError, match="empty"):
        step_of(loss).init({"w": torch.ones(5, 2)}, batch_of())


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"w": 3.0}, "params: leaf 'w' is of type float, not a tensor; make it a tensor"),
        ({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, "params: two leaves have the name 'a.b'; rename one"),
    ],
)
def test_parameters_that_are_no_tree_of_tensors(params, text):
    with pytest.raises(TreeError, match=text):
        step_of(lambda p, b: b["x"].mean()).init(params, batch_of())


def test_a_batch_of_numbers():
    """A number is a constant of the step, so the loss function gets it, and what it does with it is named."""
    with pytest.raises(TraceError, match=r"raised TypeError at .*models.py:\d+: .*unsupported operand type"):
        step_of().init(params_of(), {"x": 3, "y": torch.ones(8, 2)})


def test_a_key_that_is_none():
    with pytest.raises(FunpipeError, match=r"the key is 1.5; pass an int, or what fp.random.key\(seed\) returned"):
        step_of().init(params_of(), batch_of(), key=1.5)


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (lambda p, b: p["w"].sum() if p["w"].sum() > 0 else p["w"].mean(), r"reads a tensor's value .* torch\.where"),
        (lambda p, b: torch.nn.functional.dropout(b["x"] @ p["w"]).mean(), "random"),
        (lambda p, b: (b["x"] @ p["w"] @ p["w"]).mean(), r"raised RuntimeError at .*test_bad_input\.py:\d+"),
    ],
)
def test_what_cannot_be_traced_names_the_line(loss, text):
    with pytest.raises(TraceError, match=text):
        step_of(loss).init({"w": torch.ones(5, 2)}, batch_of())


def test_no_optimizer_is_refused():
    with pytest.raises(FunpipeTypeError, match=r"optimizer is None, .* never train: .* or use fp\.value_and_grad for"):
        fp.train_step(loss_fn, None, backend="interpret")


def rotated(params, batch):
    return (batch["x"] @ params["w"] * params["phase"].real).square().mean()


@pytest.mark.parametrize("asking", [(), ("phase",), ("w", "phase")])
def test_a_complex_leaf_is_not_frozen_in_silence(asking):
    params = {"w": torch.ones(5, 2), "phase": torch.ones(2, dtype=torch.complex64)}
    params = {n: t.requires_grad_(n in asking) for n, t in params.items()}
    with pytest.raises(TraceError, match=r"leaf 'phase' is complex64\[2\], .* pass torch\.view_as_real\(leaf\)"):
        step_of(rotated).init(params, batch_of())


def test_a_complex_leaf_may_be_frozen():
    params = {"w": torch.ones(5, 2, requires_grad=True), "phase": torch.ones(2, dtype=torch.complex64)}
    step = step_of(rotated)
    state, _ = step(step.init(params, batch_of()), batch_of())
    assert torch.equal(step.gather(state)[0]["phase"], params["phase"])


def test_a_tree_for_a_single_tensor_and_the_other_way_round():
    alone = step_of(lambda p, x: (x @ p).mean())
    state = alone.init(torch.ones(5, 2), batch_of()["x"])
    with pytest.raises(TreeError, match=r"has a leaf 'x', but a single tensor was expected; pass that tensor without"):
        alone(state, {"x": batch_of()["x"]})
    step = step_of()
    state = step.init(params_of(), batch_of())
    with pytest.raises(TreeError, match=r"is a single tensor, but a tree was .* pass a tree with the leaves 'x', 'y'"):
        step(state, batch_of()["x"])


@pytest.fixture
def other_processes(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)


@pytest.mark.usefixtures("other_processes")
def test_no_mesh_beside_other_processes_is_refused():
    for make in (step_of, lambda: fp.value_and_grad(loss_fn, backend="interpret")):
        with pytest.raises(MeshError, match=r"mesh is None, but there are 2 processes, .* pass mesh=fp\.mesh\(pp="):
            make()
