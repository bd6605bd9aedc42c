"""Numbers, strings and containers in a batch: constants of a step, which another value compiles again."""

import dataclasses
from typing import NamedTuple

import pytest
import torch

import funpipe as fp
from funpipe._errors import TraceError, TreeError
from tests.api.models import batch_of, params_of, step_of


def scaled(params, batch):
    h = torch.tanh(batch["x"] @ params["first"]["weight"] + params["first"]["bias"])
    h = torch.relu(h) if batch["how"] == "relu" else h
    return (h @ params["rest"][0] @ params["rest"][1][0] - batch["y"]).square().mean() * batch["scale"]


def batch(how="relu", scale=1.0, seed=0):
    return batch_of(seed=seed) | {"how": how, "scale": scale}


def test_another_value_is_another_step_and_an_old_one_finds_the_old_step():
    step = step_of(scaled, stages=1, optimizer=fp.optim.sgd(0.0))
    state = step.init(params_of(), batch())
    for how, scale in (("relu", 1.0), ("none", 1.0), ("none", 2.0), ("relu", 1.0)):
        state, metrics = step(state, batch(how, scale))
        torch.testing.assert_close(metrics["loss"], scaled(params_of(), batch(how, scale)))
    assert len(step._engine.compiled) == 3
    assert "fixed how = 'relu'" in step.trace(params_of(), batch()).as_text()


def test_gradients_and_evaluations_take_them_too():
    evaluate_like = step_of(scaled, stages=1)
    state = evaluate_like.init(params_of(), batch())
    evaluate = fp.eval_step(scaled, like=evaluate_like)
    f = fp.value_and_grad(scaled, num_microbatches=2, backend="interpret")
    for how in ("relu", "none", "relu"):
        grads, loss = torch.func.grad_and_value(scaled)(params_of(), batch(how))
        torch.testing.assert_close(f(params_of(), batch(how)), (loss, grads))
        torch.testing.assert_close(evaluate(state, batch(how))["loss"], loss)


@dataclasses.dataclass(frozen=True)
class Plain:
    x: torch.Tensor
    y: torch.Tensor
    how: str = "relu"
    scale: float = 1.0


class Tuple(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor
    how: str = "relu"
    scale: float = 1.0


@pytest.mark.parametrize("kind", [Plain, Tuple])
def test_a_batch_may_be_a_dataclass_or_a_named_tuple(kind):
    def loss(params, batch):
        assert isinstance(batch, kind)
        return scaled(params, {n: getattr(batch, n) for n in ("x", "y", "how", "scale")})

    step = step_of(loss, stages=1, optimizer=fp.optim.sgd(0.0))
    state = step.init(params_of(), kind(**batch_of()))
    for how in ("relu", "none"):
        state, metrics = step(state, kind(**batch(how)))
        torch.testing.assert_close(metrics["loss"], scaled(params_of(), batch(how)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"how": torch.ones(8)}, "leaf 'how' is a tensor, float32.8.; pass a value that is none"),
        ({"x": 3}, "leaf 'x' is of type int, not a tensor; make it a tensor"),
        ({"how": object()}, "leaf 'how' is of type object, not a tensor"),
        ({"more": 1}, "unknown leaf 'more'"),
    ],
)
def test_what_changes_its_kind_is_an_error(change, text):
    step = step_of(scaled, stages=1)
    state = step.init(params_of(), batch())
    with pytest.raises(TreeError, match=text):
        step(state, batch() | change)


def test_a_graph_of_such_a_step_is_refused():
    step = step_of(scaled, stages=1)
    step.init(params_of(), batch())
    with pytest.raises(TraceError, match="leaf 'how' is 'relu', and a graph of this step would go on with that value"):
        step.as_graph()
