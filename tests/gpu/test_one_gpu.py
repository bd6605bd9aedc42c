"""One GPU: a process that plays every rank, all ranks' programs as threads, and the CUDA graph of a step.

Skipped without a GPU. Equal bits are asked for only where kernels add in a fixed order: none of these models has an
embedding, whose gradient is added by atomic operations.
"""

import optree
import pytest
import torch

import funpipe as fp
from funpipe.backends.captured import Captured
from funpipe.backends.cuda_graph import record
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.schedules import OneFOneB
from funpipe.tracing import trace
from tests.api.models import batch_of, batches, loss_fn, params_of
from tests.backends.ranks import Ranks, expected, inputs_of
from tests.programs import models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

WARMUP = fp.optim.adamw(fp.optim.warmup_cosine(1e-2, 2, 8))
CLIPPED = fp.optim.chain(fp.optim.clip_by_global_norm(0.1), WARMUP)


def on(device, tree):
    return optree.tree_map(lambda t: t.detach().to(device).requires_grad_(t.requires_grad), tree)


def trained(device="cuda", steps=6, rows=8, optimizer=WARMUP, **options):
    """The losses and the parameters of some steps, another batch in each; and the step."""
    step = fp.train_step(loss_fn, optimizer, num_microbatches=4, **options)
    state = step.init(on(device, params_of()), on(device, batch_of(rows)))
    losses = []
    for batch in batches(steps, rows):
        state, metrics = step(state, on(device, batch))
        losses.append(metrics["loss"])
    return [loss.item() for loss in losses], step.gather(state)[0], step, state


def same(one, other):
    leaves = zip(optree.tree_leaves(one), optree.tree_leaves(other), strict=True)
    return all(torch.equal(a, b) for a, b in leaves)


def executable_of(step):
    (compiled,) = step._engine.compiled.values()
    return compiled.executable


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("optimizer", [WARMUP, CLIPPED], ids=["adamw", "clipped"])
def test_a_replayed_step_has_the_bits_of_a_plain_one(stages, optimizer):
    """The learning rate changes in each step, the metrics are read after all of them."""
    losses, params, step, _ = trained(stages=stages, optimizer=optimizer, cuda_graph=True)
    plain, expected, _, _ = trained(stages=stages, optimizer=optimizer, cuda_graph=False)
    assert isinstance(executable_of(step), Captured)
    assert "replayed as one CUDA graph, recorded once" in executable_of(step).as_text()
    assert losses == plain and same(params, expected)


def test_a_step_is_recorded_unless_told_otherwise():
    assert isinstance(executable_of(trained(steps=1)[2]), Captured)


@pytest.mark.parametrize("backend", ["step", "regions", "interpret"])
def test_every_backend_trains_as_on_the_cpu(backend):
    losses, params, _, _ = trained(backend=backend, stages=2)
    reference, expected, _, _ = trained("cpu", backend="interpret", stages=2)
    assert losses == pytest.approx(reference, rel=1e-4)
    for a, b in zip(optree.tree_leaves(params), optree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_fused_regions_stay_close(cuda_graph):
    losses, _, _, _ = trained(numerics="fast", stages=2, cuda_graph=cuda_graph)
    assert losses == pytest.approx(trained(stages=2)[0], rel=1e-4)


def test_an_evaluation_and_a_last_smaller_batch_between_steps():
    step = fp.train_step(loss_fn, WARMUP, num_microbatches=4, stages=2, cuda_graph=True)
    plain = fp.train_step(loss_fn, WARMUP, num_microbatches=4, stages=2, cuda_graph=False)
    found = []
    for made in (step, plain):
        state, ev = made.init(on("cuda", params_of()), on("cuda", batch_of())), fp.eval_step(loss_fn, like=made)
        seen = []
        for rows in (8, 8, 8, 4, 4, 4, 8):
            state, metrics = made(state, on("cuda", batch_of(rows, rows)))
            seen += [metrics["loss"], ev(state, on("cuda", batch_of(8, 1)))["loss"]]
        found.append([loss.item() for loss in seen])
    assert found[0] == found[1]


def test_a_loaded_state_is_another_one():
    """The recording is of the first state's memory, which is left as it is."""
    losses, _, step, state = trained(stages=2, cuda_graph=True)
    saved = optree.tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, step.state_dict(state))
    loaded = step.load(state, saved)
    batch = on("cuda", batch_of(seed=9))
    found = []
    for _ in range(3):
        loaded, metrics = step(loaded, batch)
        found.append(metrics["loss"])
    again = step.load(loaded, saved)
    expected = []
    for _ in range(3):
        again, metrics = step(again, batch)
        expected.append(metrics["loss"].item())
    assert [loss.item() for loss in found] == expected


def test_a_failed_recording_leaves_the_allocator_as_it_was():
    """Its memory is free again, and what is allocated afterwards is not in its pool."""
    x = torch.ones(1 << 20, device="cuda")

    def waits():
        doubled = x * 2
        return {"first": torch.full((), doubled[0].item(), device="cuda")}

    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="stream is capturing"):
            record(waits)
        torch.cuda.empty_cache()
        assert torch.cuda.memory_reserved() == before
    replay, results = record(lambda: {"doubled": x * 2})
    x.fill_(3)
    replay()
    assert results["doubled"].sum().item() == 6 * x.numel()
    del replay, results
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() == before


def test_a_step_whose_recording_fails_trains_on(monkeypatch):
    """The state is as it was, and the memory of the recording is not kept."""
    run = Captured._run

    def waits(self, arguments):
        results = run(self, arguments)
        if torch.cuda.is_current_stream_capturing():
            results["loss"].item()
        return results

    expected = trained(stages=2, cuda_graph=False)
    monkeypatch.setattr(Captured, "_run", waits)
    losses, params, step, _ = trained(stages=2)
    assert "runs without a CUDA graph: " in executable_of(step).as_text()
    assert losses == expected[0] and same(params, expected[1])
    torch.cuda.empty_cache()


def test_value_and_grad_is_never_recorded():
    run = fp.value_and_grad(loss_fn, num_microbatches=4)
    reference = fp.value_and_grad(loss_fn, num_microbatches=4, backend="interpret")
    for _ in range(3):
        loss, grads = run(on("cuda", params_of()), on("cuda", batch_of()))
        expected, others = reference(params_of(), batch_of())
        torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=1e-5)
        for a, b in zip(optree.tree_leaves(grads), optree.tree_leaves(others), strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-4)


def test_a_profile_is_of_the_step_kernel_by_kernel():
    _, _, step, state = trained(stages=2, cuda_graph=True)
    state, _, profile = step.profile(state, on("cuda", batch_of()))
    assert "F" in profile.as_text()
    step(state, on("cuda", batch_of()))


@pytest.mark.parametrize("backend", ["step", "interpret"])
def test_all_ranks_programs_in_one_process(backend):
    """Messages between threads, on one GPU; against the reference interpreter on the CPU."""
    params, batch = models.params_of(models.chain), models.batch_of(1)
    traced = trace(models.chain, params, batch, device="cuda")
    programs = optimize(lower(traced, models.stages_of(traced, 2), OneFOneB().table(2, 3), optimizer=WARMUP))
    inputs = inputs_of(programs, models.chain)
    on_gpu = [{n: t if n == "step" else t.cuda() for n, t in values.items()} for values in inputs]
    found = Ranks(backend, programs, WARMUP).run(on_gpu)
    on_cpu = models.traced_of(models.chain)
    same = optimize(lower(on_cpu, models.stages_of(on_cpu, 2), OneFOneB().table(2, 3), optimizer=WARMUP))
    for rank, values in enumerate(expected(same, inputs, WARMUP)):
        for name, value in values.items():
            torch.testing.assert_close(found[rank][name].cpu(), value, rtol=1e-3, atol=1e-4, msg=name)
