"""Values that the loss function reads in Python are constants of a step that are checked before each."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import funpipe as fp
from funpipe._errors import BatchError, FunpipeWarning, TraceError
from tests.api import guarded
from tests.api.guarded import SEQUENCE, batches, branching, kinds
from tests.api.models import batch_of, eager, largest_error, largest_loss_error, params_of, same_bits, step_of, trained


def test_another_value_is_another_step_and_an_old_one_finds_the_old_step():
    step = step_of(branching)
    state, losses = trained(step, params_of(), batches())
    params, wanted = guarded.wanted()
    assert largest_loss_error(losses, wanted) < 1e-5
    assert largest_error(step.gather(state)[0], params) < 1e-5
    assert len(step._engine.compiled) == 2


@settings(max_examples=10)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 7]), st.sampled_from([4, 8])), min_size=1, max_size=6))
def test_any_sequence_of_batches_trains_as_eager_does(sequence):
    data = [
        batch_of(rows, i) | {"kind": torch.tensor([kind] * (rows - 1) + [2 if kind == 7 else kind])}
        for i, (kind, rows) in enumerate(sequence)
    ]
    step = step_of(branching, num_microbatches=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FunpipeWarning)  # that it is compiled often
        state, losses = trained(step, params_of(), data)
    params, wanted = eager(branching, params_of(), data, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
    assert largest_loss_error(losses, wanted) < 1e-5
    assert largest_error(step.gather(state)[0], params) < 1e-4


def test_value_and_grad_and_evaluations_have_guards_too():
    loss_and_grad = fp.value_and_grad(branching, num_microbatches=2, backend="interpret")
    step = step_of(branching)
    state = step.init(params_of(), kinds(0))
    evaluate = fp.eval_step(branching, like=step)
    for kind in (0, 2, 0, 7):
        grads, loss = torch.func.grad_and_value(branching)(params_of(), kinds(kind))
        found, gradients = loss_and_grad(params_of(), kinds(kind))
        torch.testing.assert_close((found, gradients), (loss, grads))
        torch.testing.assert_close(evaluate(state, kinds(kind))["loss"], loss)


def test_a_value_that_is_another_one_in_every_batch_is_a_warning():
    step = step_of(lambda p, b: branching(p, b) * b["x"].sum().item(), num_microbatches=1)
    state = step.init(params_of(), kinds(0))
    with pytest.warns(FunpipeWarning, match="4 times, each time for other values that the loss function reads"):
        for seed in range(4):
            state, _ = step(state, kinds(0, seed=seed))


def test_microbatches_that_disagree_are_an_error_that_names_the_line():
    step = step_of(branching)
    state = step.init(params_of(), kinds(0))
    line = branching.__code__.co_firstlineno + 3
    with pytest.raises(
        BatchError, match=rf"guarded\.py:{line}: .*disagree on it: False in microbatch 0, .*True in micro"
    ):
        step(state, kinds(0, 2))
    with pytest.raises(BatchError, match="use torch.where or a mask"):
        step_of(branching).init(params_of(), kinds(0, 2))
    torch.testing.assert_close(step(state, kinds(0))[1]["loss"], branching(params_of(), kinds(0)))


def test_a_batch_without_values_is_an_error_that_says_so():
    step = step_of(branching)
    meta = {n: t.to("meta") for n, t in kinds(0).items()}
    with pytest.raises(TraceError, match="leaf 'kind' has no values here: pass a real batch"):
        step.init(params_of(), meta)


class Choosing(nn.Module):
    """Reads a buffer in Python, which it may update."""

    def __init__(self, updates: bool) -> None:
        super().__init__()
        self.linear, self.updates = nn.Linear(5, 2), updates
        self.register_buffer("doubled", torch.tensor(True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.linear(x) * (2 if self.doubled else 1)
        if self.updates:
            self.doubled = self.doubled.logical_not()
        return out


def choosing(updates, **options):
    torch.manual_seed(0)
    apply, params, buffers = fp.functionalize(Choosing(updates))

    def loss(params, batch, *, buffers):
        out, buffers = apply(params, buffers, batch["x"])
        return fp.Out((out - batch["y"]).square().mean(), buffers=buffers)

    step = step_of(loss, **options)
    return step, params, buffers, loss


def test_buffers_may_be_read_and_are_those_of_the_state():
    step, params, buffers, loss = choosing(updates=False)
    state = step.init(params, batch_of(), buffers=buffers)
    saved = step.state_dict(state)
    saved = {**saved, "buffers": {"doubled": torch.tensor(False)}, "params": {n: p.clone() for n, p in params.items()}}
    state = step.load(state, saved)
    found = step(state, batch_of())[1]["loss"]
    torch.testing.assert_close(found, loss(params, batch_of(), buffers={"doubled": torch.tensor(False)}).loss)
    assert len(step._engine.compiled) == 1


def test_a_buffer_that_the_model_updates_is_refused():
    step, params, buffers, _ = choosing(updates=True, trace="functional")
    with pytest.raises(TraceError, match="depends on the buffer 'doubled', which the function updates"):
        step.init(params, batch_of(), buffers=buffers)


def test_an_evaluation_may_not_read_what_training_updates():
    step, params, buffers, _ = choosing(updates=False)

    def updating(params, batch, *, buffers):
        loss = (batch["x"] @ params["linear.weight"].t()).square().mean()
        return fp.Out(loss, buffers={"doubled": buffers["doubled"].logical_not()})

    def reading(params, batch, *, buffers):
        return (batch["x"] @ params["linear.weight"].t()).mean() * (2 if buffers["doubled"] else 1)

    step = step_of(updating)
    state = step.init(params, batch_of(), buffers=buffers)
    with pytest.raises(TraceError, match="the buffer 'doubled', whose values are not known here, or change while"):
        fp.eval_step(reading, like=step)(state, batch_of())


def test_a_parameter_that_only_some_values_use_is_an_error():
    def loss(params, batch):
        return (batch["x"] @ params["a" if batch["kind"].any() else "b"]).square().mean()

    params = {"a": torch.ones(5, 2), "b": torch.ones(5, 2)}
    step = step_of(loss)
    state = step.init(params, kinds(1))
    with pytest.raises(
        TraceError, match="parameter 'a' has no gradient in the step for this batch, and had one in that"
    ):
        step(state, kinds(0))
    torch.testing.assert_close(step(state, kinds(1))[1]["loss"], loss(params, kinds(1)))


def test_a_profile_is_of_the_step_for_the_values():
    step = step_of(branching)
    state = step.init(params_of(), kinds(0))
    state, metrics, _ = step.profile(state, kinds(2))
    torch.testing.assert_close(metrics["loss"], branching(params_of(), kinds(2)))
    compiled = step.lowered.compile()
    with pytest.raises(BatchError, match="reads True at .* but the step was compiled for False"):
        compiled.profile(state, kinds(2))


def test_a_step_that_reads_values_is_no_graph():
    step = step_of(branching)
    step.init(params_of(), kinds(0))
    with pytest.raises(TraceError, match="reads False in Python at .*: use torch.where or a mask"):
        step.as_graph()


@pytest.fixture(scope="module")
def two():
    return fp.launch(guarded.two_ranks, 2, timeout=240)


def test_both_ranks_trace_again_when_a_value_flips(two):
    params, wanted = guarded.wanted()
    for rank in two:
        assert rank["flips"]["steps"] == len({kind == 2 for kind in SEQUENCE})
        assert largest_loss_error(rank["flips"]["losses"], wanted) < 1e-5
        assert largest_error(rank["flips"]["params"], params) < 1e-5
    assert same_bits(two[0]["flips"]["evaluated"], two[1]["flips"]["evaluated"])
    for found, kind in zip(two[0]["flips"]["evaluated"], (2, 0), strict=True):
        torch.testing.assert_close(found, branching(two[0]["flips"]["params"], kinds(kind, seed=9)))


@pytest.mark.parametrize("mesh", ["mistakes", "replicas"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("init", "the ranks disagree on it: global rank 1 differs from rank 0 in 'True at"),
        ("ranks", "the ranks disagree on it: global rank 1 differs from rank 0 in 'False at"),
        ("sizes", "global rank 1 got a batch of other shapes than rank 0"),
        ("both", "global rank 1 got a batch of other shapes than rank 0"),
        ("microbatches", "the microbatches of this batch disagree on it: False in microbatch 0"),
        ("new", "the ranks disagree on it: global rank 1 differs from rank 0"),
    ],
)
def test_values_that_differ_are_an_error_on_both_ranks(two, mesh, name, text):
    for rank in two:
        assert rank[mesh][name][0] == "BatchError"
        assert text in rank[mesh][name][1]


@pytest.mark.parametrize("mesh", ["mistakes", "replicas"])
def test_an_error_on_one_rank_is_told_to_the_other(two, mesh):
    assert "global rank 1 cannot run this step" in two[0][mesh]["one"][1]
    assert "the microbatches of this batch disagree on it" in two[1][mesh]["one"][1]
    for rank in two:
        assert "leaf 'kind' is of type int, not a tensor" in rank[mesh]["flag"][1]
        torch.testing.assert_close(rank[mesh]["loss"], branching(params_of(), kinds(0)))


def test_numbers_in_the_batch_are_constants_on_both_ranks(two):
    for rank in two:
        losses = rank["constants"]
        assert losses[0] * 2 > losses[1] > losses[0] > losses[2]
        assert "global rank 1 got a batch of other shapes than rank 0" in losses[3][1]
