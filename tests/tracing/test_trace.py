import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from funpipe._compat import is_fake
from funpipe._errors import LossError, TraceError
from funpipe._typing import TensorType
from funpipe.functional import Out, Weighted, cat, functionalize, mark_stage_end, mean
from funpipe.schedules import GPipe
from funpipe.stages import partition
from funpipe.tracing import Mark, trace
from tests.running import eager, run_programs
from tests.tracing.gpt import gpt

PARAMS = {"w": torch.linspace(-1, 1, 9).view(3, 3), "b": torch.ones(3)}
X = torch.linspace(0, 1, 12).view(4, 3)


def assert_computes_what_eager_does(loss, params=PARAMS, batch=X):
    traced = trace(loss, params, batch)
    found = run_programs(traced, partition(traced, ()), GPipe().table(1, 1), params, batch)
    wanted = eager(loss, params, batch, 1)
    torch.testing.assert_close(found.loss, wanted.loss)
    assert set(found.grads) == set(wanted.grads)
    torch.testing.assert_close(found.grads, wanted.grads)


def raised_by(loss, params=PARAMS, batch=X):
    with pytest.raises(TraceError) as caught:
        trace(loss, params, batch)
    return str(caught.value)


# What a graph holds


def test_forward_and_backward_are_told_apart():
    traced = trace(lambda p, x: (x @ p["w"]).sum(), PARAMS, X)
    assert [n.name for n in traced.forward] == ["mm", "sum_1"]
    assert [n.name for n in traced.backward] == ["ones_like", "expand", "t", "mm_1"]
    assert traced.outputs["loss"].name == "sum_1"


def test_for_evaluation_there_is_no_backward():
    traced = trace(lambda p, x: (x @ p["w"]).sum(), PARAMS, X, differentiate=False)
    assert (traced.backward, traced.gradients) == ((), {})


def test_leaves_that_are_not_read_are_not_in_the_graph():
    traced = trace(lambda p, b: (b["x"] @ p["w"]).sum(), PARAMS, {"x": X, "unread": X})
    assert set(traced.leaves) == {("param", "w"), ("batch", "x")}
    assert set(traced.params) == {"w", "b"} and set(traced.batch) == {"x", "unread"}
    assert set(traced.gradients) == {"w"}


def test_frozen_leaves_have_no_gradient():
    params = {"w": PARAMS["w"].clone().requires_grad_(), "b": PARAMS["b"]}
    traced = trace(lambda p, x: (x @ p["w"] + p["b"]).sum(), params, X)
    assert (set(traced.gradients), traced.frozen) == ({"w"}, {"b"})


def test_integer_parameters_are_frozen():
    traced = trace(lambda p, x: (x @ p["w"] * p["n"]).sum(), {"w": PARAMS["w"], "n": torch.tensor(3)}, X)
    assert (set(traced.gradients), traced.frozen) == ({"w"}, {"n"})


def test_all_kinds_of_outputs():
    def loss(p, x):
        h = x @ p["w"]
        return Out(Weighted(h.sum(), (x > 0).sum()), aux={"h": cat(h.detach()), "m": mean(h.detach().mean())})

    traced = trace(loss, PARAMS, X)
    assert list(traced.outputs) == ["loss", "weight", "aux.h", "aux.m"]
    assert traced.reducers == {"h": "cat", "m": "mean"}


def test_a_tied_leaf_has_a_place_for_each_use():
    def loss(p, x):
        return ((x @ p["w"]).tanh() @ p["w"] @ p["w"].t()).sum()

    assert len(trace(loss, PARAMS, X).gradients["w"]) == 3
    assert_computes_what_eager_does(loss)


def test_batch_leaves_may_be_integers_and_booleans():
    batch = {"ids": torch.tensor([0, 2]), "keep": torch.tensor([True, False])}
    traced = trace(lambda p, b: (F.embedding(b["ids"], p["w"]) * b["keep"][:, None]).sum(), PARAMS, batch)
    assert traced.batch["ids"] == TensorType((2,), (1,), torch.int64)
    assert traced.batch["keep"].dtype == torch.bool


def test_a_whole_gpt():
    loss, params, batch = gpt(blocks=2, dtype=torch.float64)
    traced = trace(loss, params, batch)
    assert len(traced.gradients["words.weight"]) == 2
    assert_computes_what_eager_does(loss, params, batch)


def test_it_prints():
    text = trace(lambda p, x: (x @ p["w"]).sum(), PARAMS, X).as_text()
    assert "leaf  param_w = param w" in text
    assert re.search(r"F     mm: float32\[4,3\] = mm.default\(batch_, param_w\)  reads w  # .*test_trace.py:\d+", text)
    assert text.endswith("return loss = sum_1\ngrad   w = mm_1")


# What it costs


def test_parameters_may_be_on_the_meta_device():
    with torch.device("meta"):
        module = nn.Linear(100_000, 100_000)
    apply, params, _ = functionalize(module)
    traced = trace(lambda p, x: apply(p, {}, x)[0].sum(), params, torch.ones(2, 100_000, device="meta"))
    assert {t.device for t in traced.params.values()} == {"cpu"}
    assert traced.params["weight"].nbytes == 4 * 10**10


def test_nothing_is_computed():
    calls = []

    def loss(p, x):
        calls.append(x)
        return (x @ p["w"]).sum()

    params = {"w": PARAMS["w"].clone().requires_grad_()}
    trace(loss, params, X)
    assert len(calls) == 3 and params["w"].grad is None  # once for the graph, twice to see that it does the same again
    assert all(is_fake(x) for x in calls)


# What a function may do


def test_a_closed_over_tensor_is_a_constant():
    scale = torch.tensor([1.0, 2.0, 3.0])
    traced = trace(lambda p, x: ((x @ p["w"] + scale) * scale).sum(), PARAMS, X)
    assert [c.tolist() for c in traced.consts.values()] == [[1, 2, 3]]
    assert_computes_what_eager_does(lambda p, x: ((x @ p["w"] + scale) * scale).sum())


def test_a_tensor_written_in_the_code_is_a_constant():
    assert_computes_what_eager_does(lambda p, x: (x @ p["w"] * torch.tensor([1.0, 2.0, 3.0])).sum())


def test_a_loss_may_be_a_parameter():
    assert_computes_what_eager_does(lambda p, x: p["w"][0, 0])
    assert_computes_what_eager_does(lambda p, x: p["s"], {"s": torch.tensor(2.0)})


def test_results_may_be_leaves():
    assert_computes_what_eager_does(lambda p, x: Out((x @ p["w"]).sum(), aux={"x": cat(x), "row": cat(x[0])}))


def test_gradients_may_be_taken_inside():
    def loss(p, x):
        return torch.func.grad(lambda y: (y @ p["w"]).sin().sum())(x).square().sum()

    assert_computes_what_eager_does(loss)


def test_autograd_may_be_used_inside():
    def loss(p, x):
        (grad,) = torch.autograd.grad((x @ p["w"]).sin().sum(), p["w"], create_graph=True)
        return grad.square().sum()

    assert_computes_what_eager_does(loss)


def test_vmap_may_be_used_inside():
    assert_computes_what_eager_does(lambda p, x: torch.func.vmap(lambda row: (row @ p["w"]).sin().sum())(x).sum())


def test_activations_may_be_checkpointed():
    assert_computes_what_eager_does(lambda p, x: checkpoint(lambda y: (y @ p["w"]).sin(), x, use_reentrant=False).sum())


def test_mixed_precision_may_be_used():
    def loss(p, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (x @ p["w"]).float().sum()

    assert trace(loss, PARAMS, X).gradients["w"][0].meta["val"].dtype == torch.float32
    assert_computes_what_eager_does(loss)


def test_attention_without_dropout_is_not_random():
    for causal in (False, True):
        assert_computes_what_eager_does(
            lambda p, x, causal=causal: F.scaled_dot_product_attention(
                *[(x @ p["w"])[None]] * 3, is_causal=causal
            ).sum()
        )


def test_a_gradient_may_not_read_its_leaf():
    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w, x):
            ctx.save_for_backward(x)
            return x.sum()

        @staticmethod
        def backward(ctx, grad):
            return ctx.saved_tensors[0][:3] * grad, None

    assert_computes_what_eager_does(lambda p, x: Custom.apply(p["w"], x))


# What it may not do


def test_item_is_refused_with_the_line_and_the_remedy():
    def loss(p, x):
        return (x @ p["w"]).sum() * p["w"].sum().item()

    text = raised_by(loss)
    assert f"{__file__}:{loss.__code__.co_firstlineno + 1}: return (x @ p[" in text
    assert text.endswith("compute the value outside of it and pass it in the batch.")


def test_a_branch_on_data_is_refused_with_the_line():
    def loss(p, x):
        h = x @ p["w"]
        if h.sum() > 0:
            return h.sum()
        return h.mean()

    text = raised_by(loss)
    assert f"reads a tensor's value in Python at {__file__}:{loss.__code__.co_firstlineno + 2}: if h.sum() > 0:" in text
    assert "use torch.where or a mask" in text


def test_a_shape_that_depends_on_the_parameters_is_refused():
    text = raised_by(lambda p, x: (x @ p["w"])[x @ p["w"] > 0].sum())
    assert "It depends on the parameter 'w', which every step changes" in text


def test_random_numbers_that_no_key_gives_are_refused_with_the_line():
    text = raised_by(lambda p, x: (x @ p["w"]).sum() + torch.poisson(x.abs()).sum())
    assert re.search(rf"draws random numbers: aten\.poisson.default at {re.escape(__file__)}:\d+\. ", text)
    assert "take the keyword `key` and use fp.random, such as fp.random.normal(key, shape)" in text
    assert text.endswith("or draw the numbers outside and pass them in the batch.")


def test_dropout_that_is_off_is_no_dropout():
    apply, params, _ = functionalize(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).eval())
    assert_computes_what_eager_does(lambda p, x: apply(p, {}, x)[0].sum(), params)


def test_closing_over_a_tensor_that_is_trained_is_refused():
    weight = torch.ones(3, requires_grad=True)
    text = raised_by(lambda p, x: (x @ p["w"] * weight).sum())
    assert "closes over a tensor of shape (3,) that requires a gradient" in text
    assert text.endswith("Pass it in params, or detach it.")


@pytest.mark.parametrize(
    "loss",
    [lambda p, x: x.sum(), lambda p, x: (x @ p["w"].detach()).sum(), lambda p, x: torch.zeros(())],
)
def test_a_loss_without_parameters_has_no_gradients(loss):
    text = raised_by(loss)
    assert text.startswith("the loss does not depend on any parameter that is trained")
    assert text.endswith("or trace with differentiate=False.")
    assert trace(loss, PARAMS, X, differentiate=False).gradients == {}


def test_parameters_that_cannot_be_trained_are_refused():
    assert "no floating-point leaf" in raised_by(lambda p, x: x.sum() * p["n"], {"n": torch.tensor(1)})


def test_what_the_function_raises_comes_with_its_line():
    def loss(p, x):
        return (x @ x).sum()

    text = raised_by(loss)
    assert f"raised RuntimeError at {__file__}:{loss.__code__.co_firstlineno + 1}: return (x @ x).sum()" in text
    assert text.endswith(". Correct that line, then trace again.") and ".. " not in text


def test_a_loss_that_is_no_scalar_is_refused_as_it_is():
    with pytest.raises(LossError, match=r"the loss has shape \(4, 3\)"):
        trace(lambda p, x: x @ p["w"], PARAMS, X)


# Marks


def marked(p, b):
    h = mark_stage_end(b @ p["w"], name="first")
    h, skip = mark_stage_end((h.tanh(), b))
    return (h @ p["w"] + skip).sum()


def test_marks_are_noted_and_removed():
    traced = trace(marked, PARAMS, X)
    assert [n.name for n in traced.forward] == ["mm", "tanh", "mm_1", "add", "sum_1"]
    assert dict.fromkeys(traced.marks) == {Mark(1, "first"): None, Mark(2, "mark1"): None}
    assert "mark_stage_end" not in traced.as_text()


def test_marks_change_nothing_but_the_marks():
    def unmarked(p, b):
        h = (b @ p["w"]).tanh()
        return (h @ p["w"] + b).sum()

    lines = [re.sub(r"  # .*", "", trace(f, PARAMS, X).as_text()) for f in (marked, unmarked)]
    assert lines[0] == lines[1]


def test_dead_nodes_do_not_shift_marks():
    def loss(p, b):
        h = b @ p["w"]
        h.exp().sum()
        return mark_stage_end(h.tanh()).sum()

    traced = trace(loss, PARAMS, X)
    assert [n.name for n in traced.forward][: traced.marks[0].position] == ["mm", "tanh"]


def test_marks_and_writes_in_place_go_together():
    def loss(p, b):
        h = mark_stage_end(F.relu(b @ p["w"], inplace=True))
        return F.relu(h + 1, inplace=True).sum()

    traced = trace(loss, PARAMS, X)
    assert traced.marks[0].position == 2
    assert_computes_what_eager_does(loss)


def test_a_constant_is_typed_where_the_step_runs():
    """A number of the host that a loss on a GPU reads: a step gets it on the GPU, in each step as it is by then."""
    scale = torch.tensor(0.5)
    meta = torch.ones(3, 2, device="meta")
    traced = trace(lambda p, x: (x @ p["w"] * scale).sum(), {"w": meta}, meta.mT, device="cuda", differentiate=False)
    (stage,) = partition(traced, ())
    assert {kind.device for kind in stage.F.types.values()} == {"cuda"}
    assert list(traced.consts.values()) == [scale] and scale.device.type == "cpu"
