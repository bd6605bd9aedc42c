"""The passes on what users trace: replicas, and sharded parameters, with their updates."""

import pytest
import torch

import funpipe as fp
from funpipe import passes
from funpipe._typing import MeshShape
from funpipe.graphs import find, simulate
from funpipe.graphs.communication import is_start
from funpipe.graphs.step import Step
from tests.passes.communication.steps import starts

LAYERS, WIDTH = 4, 6
MESH = MeshShape(pp=1, dp=2)


def loss_of(params, batch):
    """A multilayer perceptron; parameters are a list of weights."""
    x = batch["x"]
    for weight in params:
        x = torch.tanh(x @ weight)
    return (x - batch["y"]).square().mean()


def replicated(state, batch):
    """Data parallel: gradients are averaged, in the order of the parameters."""
    grads, loss = torch.func.grad_and_value(loss_of)(state["params"], batch)
    grads = fp.pmean(grads, "dp")
    params = [p - 0.1 * g for p, g in zip(state["params"], grads, strict=True)]
    return {"params": params}, {"loss": fp.pmean(loss, "dp")}


def sharded(state, batch):
    """Fully sharded: weights are gathered, gradients come back scattered."""

    def whole(shards):
        return loss_of([fp.all_gather(shard, "dp") for shard in shards], batch)

    grads, loss = torch.func.grad_and_value(whole)(state["params"])
    params = [p - 0.1 * g / 2 for p, g in zip(state["params"], grads, strict=True)]
    return {"params": params}, {"loss": fp.pmean(loss, "dp")}


def traced(step, rows: int) -> tuple[Step, list[dict[str, torch.Tensor]]]:
    """The step, and the inputs of both ranks: each has its own batch."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    state = {"params": [drawn(rows, WIDTH) for _ in range(LAYERS)]}
    batches = [{"x": drawn(3, WIDTH), "y": drawn(3, WIDTH)} for _ in range(2)]
    made = fp.trace_step(step, state, batches[0], mesh=MESH)
    return made, [dict(made.inputs(state, batch, place={"dp": i, "pp": 0})) for i, batch in enumerate(batches)]


@pytest.mark.parametrize("mode", ["concat", "coalesced"])
@pytest.mark.parametrize(("step", "rows"), [(replicated, WIDTH), (sharded, WIDTH // 2)])
def test_all_passes_in_order_keep_the_bits(step, rows, mode):
    made, inputs = traced(step, rows)
    order = passes.compose(
        passes.dedupe(),
        passes.bucket(200, 400, mode),
        passes.hoist_starts(),
        passes.sink_waits(),
        passes.schedule(),
        passes.prefetch_gathers(),
    )
    after = order(made)
    assert [each.name for each in after.graph.applied] == [each.name for each in order.passes]
    for old, new in zip(simulate(made.graph, inputs, MESH), simulate(after.graph, inputs, MESH), strict=True):
        assert all(torch.equal(old[name], new[name]) for name in old)


def test_the_first_bucket_is_sent_while_the_backward_goes_on():
    """The step averages all gradients behind its backward, first layer first; buckets are made last layer first."""
    made, _ = traced(replicated, WIDTH)
    plain = made.graph
    products = find(plain, lambda node: node.target is torch.ops.aten.mm.default)
    assert plain.positions[products[-1].name] < min(plain.positions[node.name] for node in find(plain, is_start)[1:])
    after = passes.bucket(2 * 4 * WIDTH**2, 2 * 4 * WIDTH**2)(made).graph
    assert len(starts(after)) == 3
    first = min(after.positions[node.name] for node in find(after, is_start) if node.origin == "bucket")
    assert first < after.positions[products[-1].name]


def test_sharded_weights_are_gathered_one_ahead():
    made, _ = traced(sharded, WIDTH // 2)
    after = passes.prefetch_gathers()(made).graph
    costs = passes.RooflineStep(flops=1e6, link=1e7, latency=1e-5)
    assert passes.exposed(after, costs) < passes.exposed(made.graph, costs)
    assert passes.peak_bytes(after) <= passes.peak_bytes(made.graph) + 4 * WIDTH**2
