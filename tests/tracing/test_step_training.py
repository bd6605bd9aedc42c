"""Training with collectives on simulated ranks is training on one device with the whole batch."""

import re

import optree
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import funpipe as fp
from tests.simulated import steps

ONE = fp.MeshShape(pp=1)
TWO = fp.MeshShape(pp=1, dp=2)
SQUARE = fp.MeshShape(pp=2, dp=2)


def model():
    generator = torch.Generator().manual_seed(0)
    return {
        "a": {
            "w": torch.randn(4, 8, generator=generator, dtype=torch.float64),
            "b": torch.zeros(8, dtype=torch.float64),
        },
        "h": torch.randn(8, 2, generator=generator, dtype=torch.float64),
    }


def batches(count, rows=6):
    generator = torch.Generator().manual_seed(1)
    shapes = {"x": (rows, 4), "y": (rows, 2)}
    return [
        {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()} for _ in range(count)
    ]


def loss(params, batch):
    hidden = torch.tanh(batch["x"] @ params["a"]["w"] + params["a"]["b"])
    return (hidden @ params["h"] - batch["y"]).square().mean()


def descend(params, grads):
    return optree.tree_map(lambda p, g: p - 0.1 * g, params, grads)


def whole(parts):
    return {n: torch.cat([part[n] for part in parts]) for n in parts[0]}


def by_func(params, batch):
    return torch.func.grad(loss)(params, batch)


def by_vjp(params, batch):
    value, pullback = torch.func.vjp(lambda p: loss(p, batch), params)
    return pullback(torch.ones_like(value))[0]


def by_autograd(params, batch):
    leaves = {"a": {n: t.detach().requires_grad_() for n, t in params["a"].items()}, "h": params["h"].requires_grad_()}
    w, b, h = torch.autograd.grad(loss(leaves, batch), [leaves["a"]["w"], leaves["a"]["b"], leaves["h"]])
    return {"a": {"w": w, "b": b}, "h": h}


def by_backward(params, batch):
    leaves = optree.tree_map(lambda p: p.detach().requires_grad_(), params)
    loss(leaves, batch).backward()
    return optree.tree_map(lambda leaf: leaf.grad, leaves)


def train(step, state, given, mesh, times=3):
    """Every rank's state after some steps on the same batches; ranks that start from one state share it."""
    traced = fp.trace_step(step, state, given[0], mesh=mesh)
    states = [state] * len(given)
    for _ in range(times):
        states = [new for new, _ in steps(traced, states, given)]
    return states


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


# Training


@pytest.mark.parametrize("gradient", [by_func, by_vjp, by_autograd, by_backward])
def test_data_parallel_is_one_device_on_the_whole_batch(gradient):
    def step(params, batch):
        return descend(params, fp.pmean(gradient(params, batch), "dp")), fp.pmean(loss(params, batch), "dp")

    given = batches(2)
    first, second = train(step, model(), given, TWO)
    (wanted,) = train(step, model(), [whole(given)], ONE)
    close(first, wanted)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_every_way_to_a_gradient_communicates_alike():
    def collectives(gradient):
        def step(params, batch):
            return descend(params, fp.psum(gradient(params, batch), "dp")), None

        nodes = fp.trace_step(step, model(), batches(1)[0], mesh=TWO).graph.nodes
        return [node.name for node in nodes if "funpipe" in str(node.target)]

    assert collectives(by_func) == collectives(by_vjp) == collectives(by_autograd) == collectives(by_backward)
    assert collectives(by_func)[:4] == ["all_reduce", "wait_tensor", "all_reduce_1", "wait_tensor_1"]


def sharded(tree, parts):
    """The tree of each rank, which keeps its share of the rows of every leaf."""
    cut = optree.tree_map
    return [cut(lambda leaf, i=i: leaf.chunk(parts)[i].clone(), tree) for i in range(parts)]


def shard_step(shards, batch):
    """Parameters are gathered in the forward, so gradients are scattered in the backward."""
    gradients, value = torch.func.grad_and_value(lambda s: loss(fp.all_gather(s, "dp"), batch))(shards)
    mean = optree.tree_map(lambda g: g / fp.axis_size("dp"), gradients)
    return descend(shards, mean), fp.pmean(value, "dp")


def test_sharded_parameters_train_as_one_device():
    given = batches(2)
    traced = fp.trace_step(shard_step, sharded(model(), 2)[0], given[0], mesh=TWO)
    states = sharded(model(), 2)
    for _ in range(3):
        states = [new for new, _ in steps(traced, states, given)]
    step = lambda params, batch: (descend(params, by_func(params, batch)), None)  # noqa: E731
    (wanted,) = train(step, model(), [whole(given)], ONE)
    close(states, sharded(wanted, 2))


def test_sharded_parameters_gather_forward_and_scatter_backward():
    nodes = fp.trace_step(shard_step, sharded(model(), 2)[0], batches(1)[0], mesh=TWO).graph.nodes
    kinds = [re.sub(r"_\d+$", "", n.name) for n in nodes if "collectives" in str(n.target) and n.name[:4] != "wait"]
    assert kinds == ["all_gather"] * 3 + ["reduce_scatter"] * 3 + ["all_reduce"]


def test_sharded_parameters_that_are_gathered_again_for_the_backward():
    def gathering(shards, batch):
        return loss(fp.all_gather(shards, "dp"), batch)

    def step(shards, batch):
        leaves, spec = optree.tree_flatten(optree.tree_map(lambda s: s.detach().requires_grad_(), shards))
        value = checkpoint(gathering, optree.tree_unflatten(spec, leaves), batch, use_reentrant=False)
        grads = optree.tree_unflatten(spec, [g / 2 for g in torch.autograd.grad(value, leaves)])
        return descend(shards, grads), fp.pmean(value, "dp")

    given, states = batches(2), sharded(model(), 2)
    traced = fp.trace_step(step, states[0], given[0], mesh=TWO)
    kept = fp.trace_step(shard_step, states[0], given[0], mesh=TWO)
    close(steps(traced, states, given), steps(kept, states, given))
    assert sum("all_gather.default" in str(node.target) for node in traced.graph.nodes) > 3


def test_sharded_parameters_with_an_optimizer_of_the_shards():
    optimizer = fp.optim.adamw(0.05)

    def step(state, batch):
        grads = torch.func.grad(lambda s: loss_of(fp.all_gather(s, "dp"), batch))(state["params"])
        mean = {n: g / fp.axis_size("dp") for n, g in grads.items()}
        params, slots = fp.optim.apply(optimizer, state["params"], mean, state["slots"], state["step"])
        return {"params": params, "slots": slots, "step": state["step"] + 1}, None

    def started(params):
        return {"params": params, "slots": optimizer.init(params), "step": torch.tensor(0)}

    given, flat = batches(2), {"w": model()["a"]["w"], "h": model()["h"]}
    states = [started(part) for part in sharded(flat, 2)]
    traced = fp.trace_step(step, states[0], given[0], mesh=TWO)
    for _ in range(3):
        states = [new for new, _ in steps(traced, states, given)]
    (wanted,) = train(step, started(flat), [whole(given)], ONE)
    close([s["params"] for s in states], sharded(wanted["params"], 2))
    assert [s["step"].item() for s in states] == [3, 3]


def loss_of(params, batch):
    return loss({"a": {"w": params["w"], "b": torch.zeros(8, dtype=torch.float64)}, "h": params["h"]}, batch)


def test_shards_along_one_axis_and_replicas_along_the_other():
    def step(shards, batch):
        grads = torch.func.grad(lambda s: loss(fp.all_gather(s, "pp"), batch))(shards)
        mean = optree.tree_map(lambda g: fp.pmean(g, "dp") / fp.axis_size("pp"), grads)
        return descend(shards, mean), None

    given = batches(4)
    traced = fp.trace_step(step, sharded(model(), 2)[0], given[0], mesh=SQUARE)
    states = sharded(model(), 2) * 2
    for _ in range(3):
        states = [new for new, _ in steps(traced, states, given)]
    (wanted,) = train(step, model(), [whole(given)], ONE)
    close(states, sharded(wanted, 2) * 2)


def test_hidden_units_along_one_axis_and_the_batch_along_the_other():
    def cut_loss(params, batch):
        hidden = torch.tanh(batch["x"] @ params["a"]["w"] + params["a"]["b"])
        return (fp.psum(hidden @ params["h"], "pp") - batch["y"]).square().mean()

    def step(params, batch):
        # Each rank of pp computes the same loss, and what is differentiated is the sum of all ranks'.
        grads = torch.func.grad(lambda p: cut_loss(p, batch) / fp.axis_size("pp"))(params)
        return descend(params, fp.pmean(grads, "dp")), None

    def part(params, i):
        return {
            "a": {"w": params["a"]["w"].chunk(2, 1)[i], "b": params["a"]["b"].chunk(2)[i]},
            "h": params["h"].chunk(2)[i],
        }

    given = batches(2)
    traced = fp.trace_step(step, part(model(), 0), given[0], mesh=SQUARE)
    states = [part(model(), rank % 2) for rank in range(4)]
    for _ in range(3):
        states = [new for new, _ in steps(traced, states, [given[rank // 2] for rank in range(4)])]
    (wanted,) = train(step, model(), [whole(given)], ONE)
    close(states, [part(wanted, rank % 2) for rank in range(4)])


def test_an_update_is_one_operator_for_each_dtype():
    optimizer = fp.optim.sgd(0.1, momentum=0.9)
    params = {"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(2, dtype=torch.float64)}

    def step(state, x):
        grads = {n: fp.pmean(p * x, "dp") for n, p in state["params"].items()}
        params, slots = fp.optim.apply(optimizer, state["params"], grads, state["slots"], state["step"])
        return {"params": params, "slots": slots, "step": state["step"] + 1}, None

    state = {"params": params, "slots": optimizer.init(params), "step": torch.tensor(0)}
    traced = fp.trace_step(step, state, torch.tensor(2.0), mesh=TWO)
    updates = [node for node in traced.graph.nodes if node.target is torch.ops.funpipe_optim.update.default]
    assert [len(node.args[0]) for node in updates] == [2, 1]
    assert traced.graph.objects[str(optimizer)] is optimizer
    (new, _), _ = steps(traced, [state] * 2, [torch.tensor(1.0), torch.tensor(3.0)])
    wanted, _ = fp.optim.apply(optimizer, params, {n: 2 * p for n, p in params.items()}, state["slots"], state["step"])
    torch.testing.assert_close(new["params"], wanted, rtol=0, atol=0)
