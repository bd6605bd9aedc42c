"""Parameters on a GPU that is not the current one, and a pipeline over NCCL. Skipped with fewer than two GPUs."""

import optree
import pytest
import torch

import funpipe as fp
from tests.api.models import batch_of, batches, loss_fn, params_of
from tests.gpu.test_one_gpu import WARMUP, same, trained

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")


@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("backend", ["step", "interpret"])
def test_parameters_on_the_second_gpu(backend, cuda_graph):
    """Everything stays there, whichever is the current one."""
    if backend == "interpret" and cuda_graph:
        pytest.skip("only a compiled step can be a CUDA graph")
    losses, params, _, state = trained("cuda:1", backend=backend, stages=2, cuda_graph=cuda_graph)
    first, expected, _, _ = trained("cuda:0", backend=backend, stages=2, cuda_graph=cuda_graph)
    assert {t.device.index for n, t in state.values.items() if n != "step"} == {1}
    assert losses == first
    assert same(optree.tree_map(lambda t: t.cpu(), params), optree.tree_map(lambda t: t.cpu(), expected))
    assert torch.cuda.current_device() == 0


def pipeline(schedule, microbatches):
    """On each rank the losses, and the parameters on the host."""
    mesh = fp.mesh(pp=2, timeout=120)
    step = fp.train_step(loss_fn, WARMUP, mesh=mesh, stages=2, schedule=schedule, num_microbatches=microbatches)
    state = step.init(params_of(), batch_of(microbatches))
    losses = []
    for batch in batches(4, microbatches):
        state, metrics = step(state, batch)
        losses.append(metrics["loss"].item())
    return losses, optree.tree_map(lambda t: t.cpu(), step.gather(state)[0])


@pytest.mark.parametrize(("schedule", "microbatches"), [("1f1b", 8), ("gpipe", 8), ("1f1b", 300)])
def test_two_ranks_over_nccl(schedule, microbatches):
    """300 microbatches: more messages than NCCL takes in one group."""
    (losses, params), (other, others) = fp.launch(pipeline, 2, schedule, microbatches, timeout=300)
    assert losses == other and same(params, others)
    step = fp.train_step(loss_fn, WARMUP, stages=2, schedule=schedule, num_microbatches=microbatches)
    state = step.init(optree.tree_map(torch.Tensor.cuda, params_of()), batch_of(microbatches))
    for expected, batch in zip(losses, batches(4, microbatches), strict=True):
        state, metrics = step(state, batch)
        assert metrics["loss"].item() == pytest.approx(expected, rel=1e-4)


def replicas():
    mesh = fp.mesh(pp=1, dp=2, timeout=120)
    step = fp.train_step(loss_fn, WARMUP, mesh=mesh, num_microbatches=4)
    batch = batch_of(8, seed=mesh.dp_rank)
    state = step.init(params_of(), batch)
    for _ in range(3):
        state, metrics = step(state, batch)
    return metrics["loss"].item(), optree.tree_map(lambda t: t.cpu(), step.gather(state)[0])


def test_two_replicas_over_nccl():
    (loss, params), (other, others) = fp.launch(replicas, 2, timeout=300)
    assert loss == other and same(params, others)
