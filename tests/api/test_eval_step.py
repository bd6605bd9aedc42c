"""An evaluation on the state of a training step: the same leaves in the same places, nothing changed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import funpipe as fp
from funpipe._errors import BatchError, ScheduleError, StageError, TreeError
from tests.api.models import batch_of, batches, loss_fn, params_of, same_bits, step_of, trained


@pytest.fixture
def step():
    return step_of()


@pytest.fixture
def state(step):
    return step.init(params_of(), batch_of())


def accuracy(params, batch):
    """Another forward of the same leaves."""
    h = torch.tanh(batch["x"] @ params["first"]["weight"] + params["first"]["bias"])
    h = torch.tanh(h @ params["rest"][0]).relu() * 2
    out = h @ params["rest"][1][0]
    return fp.Out(F.l1_loss(out, batch["y"]), aux={"sign": fp.mean((out.sign() == batch["y"].sign()).float().mean())})


@pytest.mark.parametrize("evaluated", [loss_fn, accuracy])
def test_it_equals_the_function_itself(step, state, evaluated):
    metrics = fp.eval_step(evaluated, like=step)(state, batch_of(seed=3))
    wanted = evaluated(params_of(), batch_of(seed=3))
    torch.testing.assert_close(metrics["loss"], wanted if evaluated is loss_fn else wanted.loss)
    if evaluated is accuracy:
        torch.testing.assert_close(metrics["sign"], wanted.aux["sign"].value)


def test_the_state_stays_as_it_was(step, state):
    state, _ = step(state, batch_of())
    before, kept = step.gather(state)[0], step.state_dict(state)
    evaluate = fp.eval_step(accuracy, like=step)
    first, second = evaluate(state, batch_of()), evaluate(state, batch_of())
    assert torch.equal(first["loss"], second["loss"])
    assert same_bits(step.gather(state)[0], before)
    assert step.state_dict(state)["step"] == kept["step"] == 1
    _, losses = trained(step_of(), params_of(), [batch_of()] * 2)
    assert torch.equal(step(state, batch_of())[1]["loss"], losses[1])


def test_it_sees_the_parameters_of_the_state_it_is_given(step, state):
    evaluate = fp.eval_step(loss_fn, like=step)
    for seed in range(3):
        torch.testing.assert_close(evaluate(state, batch_of())["loss"], loss_fn(step.gather(state)[0], batch_of()))
        state, _ = step(state, batch_of(seed=seed))


@pytest.mark.parametrize("num_microbatches", [1, 2, 8])
def test_the_number_of_microbatches_is_its_own(step, state, num_microbatches):
    evaluate = fp.eval_step(loss_fn, like=step, num_microbatches=num_microbatches)
    torch.testing.assert_close(evaluate(state, batch_of())["loss"], loss_fn(params_of(), batch_of()))


@pytest.mark.parametrize("schedule", ["zbv", "dualpipev"])
@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_a_number_of_microbatches_that_the_schedule_does_not_have(schedule, num_microbatches):
    step = step_of(schedule=schedule, stages=4, num_microbatches=4)
    evaluate = fp.eval_step(loss_fn, like=step, num_microbatches=num_microbatches)
    state = step.init(params_of(), batch_of())
    torch.testing.assert_close(evaluate(state, batch_of())["loss"], loss_fn(params_of(), batch_of()))


def test_batches_of_other_sizes_are_traced_again(step, state):
    evaluate = fp.eval_step(loss_fn, like=step)
    for rows in (12, 8, 4, 12):
        torch.testing.assert_close(evaluate(state, batch_of(rows))["loss"], loss_fn(params_of(), batch_of(rows)))
    assert len(evaluate._engine.compiled) == 3


def test_its_batch_may_have_another_structure_than_that_of_training(step, state):
    evaluate = fp.eval_step(lambda p, x: loss_fn(p, {"x": x, "y": x[:, :2]}), like=step)
    x = batch_of()["x"]
    torch.testing.assert_close(evaluate(state, x)["loss"], loss_fn(params_of(), {"x": x, "y": x[:, :2]}))
    with pytest.raises(TreeError, match="batch: it has a leaf 'x', but a single tensor was expected"):
        evaluate(state, {"x": x})


def test_a_batch_that_does_not_divide_is_an_error(step, state):
    with pytest.raises(BatchError, match="6 rows along dimension 0, which 4 microbatches do not divide"):
        fp.eval_step(loss_fn, like=step)(state, batch_of(6))
    with pytest.raises(BatchError, match="the number of microbatches is 0"):
        fp.eval_step(loss_fn, like=step, num_microbatches=0)


def test_it_follows_the_step_when_that_is_made_anew(step, state):
    """It once went on with the places that the leaves of the first init had."""
    evaluate = fp.eval_step(loss_fn, like=step)
    evaluate(state, batch_of())
    state = step.init(params_of(width=9), batch_of())
    torch.testing.assert_close(evaluate(state, batch_of())["loss"], loss_fn(params_of(width=9), batch_of()))


def bare_ends(params, batch):
    """Three stages; the one in the middle and the last one read no leaf."""
    h = fp.mark_stage_end(batch["x"] @ params["w"])
    h = fp.mark_stage_end(h.relu() * 2)
    return (h - batch["y"]).square().mean()


@pytest.mark.parametrize("other", [False, True])
def test_stages_without_leaves_are_kept(other):
    """Cutting where leaves change hands once found no place for them."""
    step = step_of(bare_ends, fp.optim.sgd(0.1))
    state = step.init({"w": torch.ones(5, 2)}, batch_of())
    evaluated = (lambda p, b: (b["x"] @ p["w"]).sigmoid().mul(3).mean()) if other else bare_ends
    metrics = fp.eval_step(evaluated, like=step)(state, batch_of())
    torch.testing.assert_close(metrics["loss"], evaluated({"w": torch.ones(5, 2)}, batch_of()))


def test_reading_leaves_in_another_order_is_an_error(step, state):
    def backwards(params, batch):
        h = batch["y"] @ params["rest"][1][0].t()
        return (h @ params["first"]["weight"].t()).mean()

    text = (
        r"reads, in stage 1 or later, what the training step keeps elsewhere: param first\.weight on stage 0\. .* "
        r"order in which the loss function does, or evaluate with step\.gather\(state\)"
    )
    with pytest.raises(StageError, match=text):
        fp.eval_step(backwards, like=step)(state, batch_of())


def test_leaves_may_be_returned(step, state):
    def early(params, batch):
        return fp.Out(loss_fn(params, batch), aux={"bias": fp.last(params["first"]["bias"])})

    metrics = fp.eval_step(early, like=step)(state, batch_of())
    assert torch.equal(metrics["bias"], params_of()["first"]["bias"])


def test_returning_a_leaf_that_it_does_not_use_is_an_error_where_that_is_elsewhere(step, state):
    def unread(params, batch):
        out = torch.tanh(batch["x"] @ params["first"]["weight"]) @ params["rest"][0]
        return fp.Out(out.mean(), aux={"bias": fp.last(params["first"]["bias"])})

    with pytest.raises(StageError, match=r"what the training step keeps elsewhere: param first\.bias on stage 0"):
        fp.eval_step(unread, like=step)(state, batch_of())


def test_a_stage_that_would_get_nothing_is_an_error(step, state):
    with pytest.raises(StageError, match=r"no operation is left for stage 0: .* Evaluate with step\.gather\(state\)"):
        fp.eval_step(lambda p, b: (b["y"] @ p["rest"][1][0].t()).mean(), like=step)(state, batch_of())


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor(3.0))

    def forward(self, x):
        return self.last(fp.mark_stage_end(torch.tanh(self.norm(self.first(x)))))


def test_buffers_are_read_and_need_not_be_returned():
    torch.manual_seed(0)
    apply, params, buffers = fp.functionalize(Normalized())
    evaluated = Normalized().eval()
    apply_eval, _, _ = fp.functionalize(evaluated)

    def training(params, batch, *, buffers):
        out, buffers = apply(params, buffers, batch["x"])
        return fp.Out(F.mse_loss(out, batch["y"]), buffers=buffers)

    def validation(params, batch, *, buffers):
        return F.mse_loss(apply_eval(params, buffers, batch["x"])[0], batch["y"]) * buffers["scale"]

    step = step_of(training)
    state, _ = trained(step, params, batches(3), buffers=buffers)
    metrics = fp.eval_step(validation, like=step)(state, batch_of(seed=9))
    fp.restore(evaluated, *step.gather(state))
    with torch.no_grad():
        wanted = F.mse_loss(evaluated(batch_of(seed=9)["x"]), batch_of(seed=9)["y"]) * 3
    torch.testing.assert_close(metrics["loss"], wanted)


def test_a_weighted_evaluation_is_divided_by_the_whole_weight(step, state):
    def weighted(params, batch):
        weight = batch["x"][:, 0].abs()
        return fp.Weighted((weight * batch["x"].sum(1)).sum() + 0 * loss_fn(params, batch), weight.sum())

    x = batch_of()["x"]
    wanted = (x[:, 0].abs() * x.sum(1)).sum() / x[:, 0].abs().sum()
    torch.testing.assert_close(fp.eval_step(weighted, like=step)(state, batch_of())["loss"], wanted)


def test_a_table_of_its_own_number_of_microbatches_is_no_other():
    step = step_of(schedule=fp.schedules.GPipe().table(2, 4))
    state = step.init(params_of(), batch_of())
    torch.testing.assert_close(
        fp.eval_step(loss_fn, like=step)(state, batch_of())["loss"], loss_fn(params_of(), batch_of())
    )
    with pytest.raises(ScheduleError, match=r"num_microbatches=4 only, not 2; use num_microbatches=4"):
        fp.eval_step(loss_fn, like=step, num_microbatches=2)(state, batch_of())


def test_the_ranks_of_the_regions_are_forward_alone(step, state):
    evaluate = fp.eval_step(loss_fn, like=step)
    evaluate(state, batch_of())
    assert list(evaluate._engine.lowered.all.regions) == ["F0", "F1"]
