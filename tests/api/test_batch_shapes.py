"""A batch of another size is another compiled step on the same state; anything else that changes is an error."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import BatchError, TraceError, TreeError
from tests.api.models import batch_of, eager, largest_loss_error, leaves, loss_fn, params_of, step_of, trained


def test_another_batch_size_traces_again():
    step = step_of()
    sizes = [batch_of(8), batch_of(16, 1), batch_of(8, 2), batch_of(4, 3), batch_of(16, 4)]
    _, losses = trained(step, params_of(), sizes)
    _, wanted = eager(loss_fn, params_of(), sizes, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
    assert largest_loss_error(losses, wanted) < 1e-5
    assert len(step._engine.compiled) == 3


def uneven(params, batch):
    """What is heavier, the first or the last layers, depends on the number of rows."""
    table = torch.tanh(params["big"] @ params["square"]) @ params["down"]
    h = batch["x"] @ table
    for _ in range(6):
        h = torch.tanh(h @ params["mix"])
    return (h @ params["last"]).square().mean()


def uneven_params():
    shapes = {"big": (5, 64), "square": (64, 64), "down": (64, 8), "mix": (8, 8), "last": (8, 1)}
    return {n: torch.randn(*s, generator=torch.Generator().manual_seed(1)) / 8 for n, s in shapes.items()}


def test_the_leaves_stay_where_they_are_when_other_sizes_would_be_cut_elsewhere():
    """A balanced cut of the larger batch alone lies elsewhere; its step was once run on the first one's buckets."""
    small, large = {"x": batch_of(4)["x"]}, {"x": batch_of(4096)["x"]}
    step, other = step_of(uneven, stages=2), step_of(uneven, stages=2)
    other.init(uneven_params(), large)
    state = step.init(uneven_params(), small)
    assert step.lowered.cuts != other.lowered.cuts
    state, metrics = step(state, large)
    params, losses = eager(uneven, uneven_params(), [large, small], lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
    torch.testing.assert_close(metrics["loss"], losses[0])
    state, metrics = step(state, small)
    torch.testing.assert_close(metrics["loss"], losses[1])
    for found, wanted in zip(leaves(step.gather(state)[0]), leaves(params), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.fixture
def ready():
    step = step_of()
    return step, step.init(params_of(), batch_of())


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda b: {**b, "x": b["x"].double()}, TreeError, r"leaf 'x' is float64\[8,5\], but was float32\[8,5\]"),
        (lambda b: {**b, "y": b["y"][None]}, TreeError, r"leaf 'y' is float32\[1,8,2\], but was float32\[8,2\]"),
        (lambda b: {"x": b["x"], "z": b["y"]}, TreeError, "batch: unknown leaf 'z'"),
        (lambda b: {"x": b["x"]}, TreeError, "batch: missing 'y'"),
        (lambda b: {**b, "y": 3}, TreeError, "leaf 'y' is of type int, not a tensor; make it a tensor"),
        (lambda b: {**b, "x": b["x"][:6], "y": b["y"][:6]}, BatchError, "6 rows along dimension 0, which 4 microb"),
        (lambda b: {**b, "x": b["x"][:4]}, BatchError, "leaf 'x' .* has 4 rows .* but leaf 'y' .* has 8"),
        (lambda b: {**b, "x": b["x"][:, :3]}, TraceError, r"^batch: leaf 'x' is float32\[8,3\], not float32\[8,5\]"),
    ],
)
def test_a_later_batch_that_does_not_fit_names_the_leaf(ready, change, error, text):
    step, state = ready
    with pytest.raises(error, match=text):
        step(state, change(batch_of()))
    step(state, batch_of())  # the state was not touched


def test_another_structure_with_the_same_names_is_refused():
    step = step_of(lambda params, batch: (batch[0] @ params["w"] - batch[1]).square().mean())
    state = step.init({"w": torch.ones(5, 2)}, list(batch_of().values()))
    with pytest.raises(TreeError, match=r"batch: its structure is PyTreeSpec\(\(\*, \*\)\), but that of the batch"):
        step(state, tuple(batch_of().values()))


def test_strided_batches_are_laid_out(ready):
    step, state = ready
    batch = batch_of()
    strided = {n: t.t().contiguous().t() for n, t in batch.items()}
    torch.testing.assert_close(step(state, strided)[1]["loss"], loss_fn(params_of(), batch))


def test_compile_prepares_a_size_before_its_first_batch(ready):
    step, state = ready
    step.compile({n: t.to("meta") for n, t in batch_of(16).items()})
    assert len(step._engine.compiled) == 1
    step(state, batch_of(16))
    assert len(step._engine.compiled) == 1


def test_dimension_one_may_count_the_rows_and_leaves_may_be_replicated():
    def loss(params, batch):
        return ((batch["x"].t() @ params["w"] - batch["y"]) * batch["scale"]).square().mean()

    batch = {"x": batch_of()["x"].t(), "y": batch_of()["y"], "scale": torch.tensor([1.0, 3.0])}
    step = step_of(loss, batch_spec={"x": 1, "y": 0, "scale": None})
    state, losses = trained(step, {"w": torch.ones(5, 2)}, [batch, batch])
    wanted, wanted_losses = eager(loss, {"w": torch.ones(5, 2)}, [batch] * 2, lambda p: torch.optim.SGD(p, 0.1, 0.9))
    assert largest_loss_error(losses, wanted_losses) < 1e-5
    torch.testing.assert_close(step.gather(state)[0], wanted)


def test_a_batch_may_be_one_tensor():
    step = fp.train_step(lambda p, x: (x @ p).square().mean(), fp.optim.sgd(0.1), backend="interpret")
    state = step.init(torch.ones(5, 1), batch_of()["x"])
    with pytest.raises(TreeError, match="batch: the only leaf is float64"):
        step(state, batch_of()["x"].double())
