import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import funpipe as fp
from funpipe._errors import GraphError
from funpipe.graphs import eliminate_dead, from_fx
from funpipe.passes.optimizer.calls import read_update, updates
from tests.passes.optimizer.steps import OPTIMIZERS, SHAPES, draw, update_step

ADAM = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "eps": 1e-8, "maximize": False}


def fused_adam(lr, amsgrad):
    """The reading of one `_fused_adam` of two leaves."""

    def function(*x):
        p, g, m, v, top = (list(x[i : i + 2]) for i in range(0, 10, 2))
        new = torch.ops.aten._fused_adam(
            p, g, m, v, top if amsgrad else [], [x[10]] * 2, lr=x[11] if lr is None else lr, amsgrad=amsgrad, **ADAM
        )
        return [*new[0], *new[2], *new[3], *new[4]]

    tensors = [*torch.ones(10, 3), torch.tensor(1.0), torch.tensor(0.1)]
    names = [f"state.{kind}.{i}" for kind in ("p", "g", "m", "v", "top") for i in range(2)]
    graph = from_fx(make_fx(function, tracing_mode="fake")(*tensors).graph, [*names, "state.step", "state.lr"])
    (call,) = updates(eliminate_dead(graph))
    return call


def test_an_update_of_fp_optim():
    step = update_step(OPTIMIZERS["clipped"], draw(0), lr=0.1)
    (call,) = updates(step.graph)
    assert call.kind == "update"
    assert call.leaves == tuple(f"params.{name}" for name in sorted(SHAPES))
    assert call.params[0] == "state.params.leaf0"
    assert call.slots["1.v"][2] == "state.opt.1.v.leaf2"
    assert call.steps == ("state.step",)
    assert call.settings["lr"].name == "state.lr"
    assert (
        call.settings["optimizer"]
        == "chain(clip_by_global_norm(max_norm=0.5), "
        + str(OPTIMIZERS["adam"]).replace("weight_decay=0.1", "weight_decay=0.0")
        + ")"
    )
    assert call.outputs["1.m"][1] == step.graph.outputs["state.opt.1.m.leaf1"].name


@pytest.mark.parametrize("lr", [0.1, None])
def test_a_fused_update_of_torch(lr):
    call = fused_adam(lr, amsgrad=False)
    assert call.kind == "_fused_adam"
    assert call.leaves == ("p.0", "p.1")
    assert call.grads == ("state.g.0", "state.g.1")
    assert list(call.slots) == ["exp_avgs", "exp_avg_sqs"]
    assert call.steps == ("state.step", "state.step")
    assert call.settings["beta2"] == 0.99
    assert getattr(call.settings["lr"], "name", call.settings["lr"]) == ("state.lr" if lr is None else lr)
    assert call.outputs["grads"] == (None, None)
    assert None not in call.outputs["exp_avg_sqs"]


def test_amsgrad_has_a_slot_more():
    call = fused_adam(0.1, amsgrad=True)
    assert call.slots["max_exp_avg_sqs"] == ("state.top.0", "state.top.1")
    assert None not in call.outputs["max_exp_avg_sqs"]


def test_what_is_no_update():
    graph = fp.trace_step(lambda s, x: (s + x, {}), torch.ones(2), torch.ones(2)).graph
    with pytest.raises(GraphError, match=r"add \(aten.add.Tensor.*\) is no update: pass the node of one"):
        read_update(graph, graph.nodes[0])


def test_a_leaf_that_is_updated_twice():
    optimizer = fp.optim.sgd(0.1)

    def step(state, batch):
        new, _ = fp.optim.apply(optimizer, state, batch, {}, torch.tensor(0))
        other, _ = fp.optim.apply(optimizer, state, new, {}, torch.tensor(0))
        return other, {}

    leaves = {"w": torch.ones(2)}
    with pytest.raises(GraphError, match=r"update_1 .* updates leaf 'w', which 'update' updates, too: update each"):
        updates(fp.trace_step(step, leaves, leaves).graph)
