"""What every schedule, cut and mesh has to keep, in the interpreter."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from funpipe import optim
from funpipe._typing import MeshShape
from funpipe.functional import Out, functionalize
from funpipe.passes import optimize
from funpipe.programs import lower, verify
from funpipe.programs.instructions import Flatten, Zero
from funpipe.programs.update import squares
from funpipe.schedules import GPipe, OneFOneB, forward_only, merge
from funpipe.tracing import trace
from tests.programs.models import (
    MODELS,
    ROWS,
    Normalized,
    batch_of,
    buffers_of,
    chain,
    eager_loss,
    normalized,
    params_of,
    programs_of,
    skipping,
    stages_of,
    tied,
    traced_of,
    weighted,
)
from tests.programs.worlds import World, same_bits

CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), optim.adamw(1e-2))


def trained(loss_fn, programs, optimizer, steps=3):
    world = World(programs, params_of(loss_fn), optimizer, buffers_of(loss_fn))
    dp = programs.mesh.dp
    results = [world.step(batch_of(programs.num_microbatches * dp, seed=s)) for s in range(steps)]
    return world, results


def eager_training(loss_fn, optimizer, num_microbatches, steps=3, dtype=torch.float64):
    params = params_of(loss_fn, dtype)
    opt = optimizer([p for p in params.values() if p.requires_grad])
    losses = []
    for seed in range(steps):
        opt.zero_grad()
        loss = eager_loss(loss_fn, params, batch_of(num_microbatches, dtype, seed))
        loss.backward()
        opt.step()
        losses.append(loss.detach())
    return {n: p.detach() for n, p in params.items()}, losses


@pytest.mark.parametrize("loss_fn", MODELS)
@pytest.mark.parametrize("num_stages", [1, 2, 3, 4])
def test_every_cut_and_schedule_gives_the_bits_of_one_stage(loss_fn, num_stages):
    one, _ = trained(loss_fn, programs_of(loss_fn, 1, 4, GPipe(), optimizer=CLIPPED), CLIPPED)
    for table in (
        GPipe().table(num_stages, 4),
        OneFOneB().table(num_stages, 4),
        merge(OneFOneB().table(num_stages, 4)),
    ):
        cut, _ = trained(loss_fn, programs_of(loss_fn, num_stages, schedule=table, optimizer=CLIPPED), CLIPPED)
        assert same_bits(one.params(), cut.params())


@pytest.mark.parametrize("loss_fn", MODELS)
@pytest.mark.parametrize(("pp", "dp"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (3, 3)])
def test_any_mesh_trains_as_eager_torch_on_one_device(loss_fn, pp, dp):
    double, optimizer = torch.float64, optim.adam(1e-2)
    programs = programs_of(loss_fn, pp, 2, dtype=double, mesh=MeshShape(pp, dp), optimizer=optimizer)
    world = World(programs, params_of(loss_fn, double), optimizer)
    for seed in range(3):
        world.step(batch_of(2 * dp, double, seed))
    wanted, _ = eager_training(loss_fn, lambda p: torch.optim.Adam(p, 1e-2), 2 * dp)
    found = world.params()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("pp", "dp"), [(1, 1), (2, 1), (2, 2)])
def test_a_weighted_loss_is_divided_once_by_the_weight_of_the_global_batch(pp, dp):
    double = torch.float64
    world = World(programs_of(weighted, pp, 2, dtype=double, mesh=MeshShape(pp, dp)), params_of(weighted, double))
    batch = batch_of(2 * dp, double)
    world.step(batch)
    params = params_of(weighted, double)
    eager_loss(weighted, params, batch).backward()
    for name, grad in world.grads().items():
        torch.testing.assert_close(grad, params[name].grad, rtol=1e-12, atol=1e-14)
    total = [sum(world.results(d)[n] for d in range(dp)) for n in ("loss", "weight")]
    torch.testing.assert_close(total[0] / total[1], eager_loss(weighted, params, batch).detach())


@pytest.mark.parametrize(("num_stages", "dp"), [(2, 1), (3, 1), (4, 1), (4, 2)])
def test_copies_of_a_tied_leaf_stay_equal_to_the_bit(num_stages, dp):
    optimizer = optim.adamw(1e-2)
    programs = optimize(programs_of(tied, num_stages, 3, mesh=MeshShape(num_stages, dp), optimizer=optimizer))
    world, _ = trained(tied, programs, optimizer, steps=5)
    copies = world.copies("words")
    assert len(copies) == {2: 2, 3: 2, 4: 3}[num_stages] * dp
    assert all(torch.equal(copies[0], other) for other in copies)
    assert not torch.equal(copies[0], params_of(tied)["words"])


def test_a_tied_leaf_has_one_accumulator_for_each_place_and_is_added_once():
    programs = programs_of(tied, 4, 2)
    (flatten,) = [i for i in programs.programs[0].instructions if isinstance(i, Flatten) and "words" in str(i)]
    assert ("acc.words.0", "acc.words.1", "acc.words.2") in flatten.places
    zeroed = {i.writes[0]: p.rank for p in programs.programs for i in p.instructions if isinstance(i, Zero)}
    assert [zeroed[f"acc.words.{k}"] for k in range(3)] == [3, 2, 0]


def test_the_norm_of_clipping_does_not_depend_on_the_cut():
    worlds = [trained(tied, programs_of(tied, p, 4, optimizer=CLIPPED), CLIPPED, steps=1)[0] for p in (1, 2, 3, 4)]
    found = [rank["squares"] for world in worlds for rank in world.values[0]]
    assert all(torch.equal(found[0], other) for other in found)


def test_a_rank_without_buckets_makes_the_squares_where_the_others_do():
    programs = programs_of(tied, 2, 2, optimizer=CLIPPED)
    kind = replace(programs.types["squares"], device="meta")
    found = squares(programs.layout, programs.leaf_order, {}, kind)
    assert (found.device.type, tuple(found.shape), found.dtype) == ("meta", kind.shape, kind.dtype)


def test_clipping_is_that_of_torch():
    double = torch.float64
    optimizer = optim.chain(optim.clip_by_global_norm(0.1), optim.sgd(0.5))
    world = World(programs_of(chain, 3, 2, dtype=double, optimizer=optimizer), params_of(chain, double), optimizer)
    world.step(batch_of(2, double))
    params = params_of(chain, double)
    eager_loss(chain, params, batch_of(2, double)).backward()
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in params.values()]))
    for name, found in world.params().items():
        wanted = params[name].detach() - 0.5 * params[name].grad * min(1.0, 0.1 / norm)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


def eager_normalized(batch, num_microbatches):
    module = Normalized()
    _, params, buffers = functionalize(module)
    for live, start in ((params, params_of(normalized)), (buffers, buffers_of(normalized))):
        for name, tensor in live.items():
            tensor.detach().copy_(start[name])
    for x, y in zip(batch["x"].chunk(num_microbatches), batch["y"].chunk(num_microbatches), strict=True):
        F.mse_loss(module(x), y)
    return {n: b.clone() for n, b in module.named_buffers()}


@pytest.mark.parametrize("num_stages", [1, 2, 4])
@pytest.mark.parametrize("schedule", [GPipe(), OneFOneB()])
def test_buffers_go_through_the_microbatches_in_order(num_stages, schedule):
    world = World(programs_of(normalized, num_stages, 4, schedule), params_of(normalized), None, buffers_of(normalized))
    batch = batch_of(4)
    found = {n.removeprefix("buffer."): t for n, t in world.step(batch).items() if n.startswith("buffer.")}
    wanted = eager_normalized(batch, 4)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])
    assert found["norms.0.num_batches_tracked"] == 4


def buffers_after(mean_buffers):
    mesh = MeshShape(2, 2)
    programs = optimize(programs_of(normalized, 2, 2, mesh=mesh, mean_buffers=mean_buffers))
    world = World(programs, params_of(normalized), None, buffers_of(normalized))
    batch = batch_of(4)
    world.step(batch)
    halves = [{n: t.chunk(2)[d] for n, t in batch.items()} for d in range(2)]
    return [world.results(d) for d in range(2)], [eager_normalized(half, 2) for half in halves]


def test_without_averaging_each_replica_has_its_own_buffers():
    found, wanted = buffers_after(mean_buffers=False)
    for replica in range(2):
        torch.testing.assert_close(
            found[replica]["buffer.norms.1.running_mean"], wanted[replica]["norms.1.running_mean"]
        )


def test_averaged_buffers_are_the_mean_over_the_replicas_and_counts_are_kept():
    found, wanted = buffers_after(mean_buffers=True)
    mean = (wanted[0]["norms.1.running_var"] + wanted[1]["norms.1.running_var"]) / 2
    assert torch.equal(found[0]["buffer.norms.1.running_var"], found[1]["buffer.norms.1.running_var"])
    torch.testing.assert_close(found[0]["buffer.norms.1.running_var"], mean)
    assert found[1]["buffer.norms.1.num_batches_tracked"] == 2


def test_frozen_and_unused_leaves_are_untouched():
    optimizer = optim.adamw(1e-2, weight_decay=0.5)
    world, _ = trained(skipping, programs_of(skipping, 3, optimizer=optimizer), optimizer)
    before = params_of(skipping)
    for name in ("frozen", "unused", "b0", "w3"):
        assert torch.equal(world.copies(name)[0], before[name])
    assert not torch.equal(world.copies("w1")[0], before["w1"])


def test_results_of_microbatches_are_combined_by_their_reducers():
    batch = batch_of(3)
    found = World(programs_of(skipping, 3, 3), params_of(skipping)).step(batch)
    assert torch.equal(found["aux.y"], batch["y"])
    assert found["aux.rows"].shape == (6,)
    torch.testing.assert_close(found["aux.rows"].mean(), found["loss"])
    torch.testing.assert_close(found["loss"], eager_loss(skipping, params_of(skipping), batch).detach())


@pytest.mark.parametrize("loss_fn", MODELS)
@pytest.mark.parametrize("num_stages", [1, 2, 4])
def test_an_evaluation_runs_the_forward_alone(loss_fn, num_stages):
    traced = traced_of(loss_fn, differentiate=False)
    table = forward_only(OneFOneB().table(num_stages, 3))
    programs = optimize(lower(traced, stages_of(traced, num_stages), table))
    world = World(programs, params_of(loss_fn))
    loss = world.step(batch_of(3))["loss"]
    if loss_fn is not weighted:
        torch.testing.assert_close(loss, eager_loss(loss_fn, params_of(loss_fn), batch_of(3)).detach())
    assert all(region.kind == "F" for region in programs.regions.values())
    assert same_bits(world.params(), {n: p.detach() for n, p in params_of(loss_fn).items()})


def test_a_forward_only_table_of_a_differentiated_trace_has_no_gradients():
    programs = optimize(programs_of(chain, 2, schedule=forward_only(GPipe().table(2, 3))))
    assert list(programs.regions) == ["F0", "F1"]
    assert "zero" not in programs.as_text()


def noting(params, batch, *, buffers):
    """The buffers are updated, and nothing reads them."""
    loss = chain(params, batch)
    return Out(loss, buffers={"last": loss.detach(), "seen": batch["x"].sum(0)})


@pytest.mark.parametrize("num_stages", [1, 2, 3])
def test_buffers_that_are_only_updated_are_kept_where_they_are(num_stages):
    start, batch = {"last": torch.tensor(0.0), "seen": torch.zeros(6)}, batch_of(3)
    traced = trace(noting, params_of(chain), batch_of(1), buffers=start)
    programs = lower(traced, stages_of(traced, num_stages), OneFOneB().table(num_stages, 3))
    world = World(programs, params_of(chain), None, start)
    world.step(batch)
    held = {n: t for rank in world.state[0] for n, t in rank.items() if n.startswith("buffer.")}
    last = {n: t[-ROWS:] for n, t in batch.items()}
    torch.testing.assert_close(held["buffer.last"], chain(params_of(chain), last).detach())
    torch.testing.assert_close(held["buffer.seen"], last["x"].sum(0))
    verify(optimize(programs))
