"""The same passes on a pipelined step: two stages, two replicas, rotated or not, equal to the single device."""

import pytest
import torch

import funpipe as fp
from funpipe import passes
from funpipe._errors import RotateError
from funpipe._typing import MeshShape
from funpipe.passes import collectives, donate, optimize, require_agreement, rotated, updates, waits
from funpipe.programs import graph_of
from funpipe.schedules import ZBV, GPipe, Interleaved1F1B, OneFOneB
from tests.api.models import batches, largest_error, largest_loss_error, loss_fn, params_of, same_bits, step_of, trained
from tests.api.ranks import CLIPPED, MOMENTUM, weighted
from tests.passes.pipelined_ranks import STEPS, four_compiled, four_ranks
from tests.passes.rotation.folds import folded, folded_rotated, same
from tests.programs import models
from tests.programs.worlds import World

FOUR = MeshShape(2, 2)
ADAMW = fp.optim.adamw(1e-2)
EXACT = {
    "buckets": passes.compose(passes.dedupe(), passes.bucket(), passes.hoist_starts(), passes.sink_waits()),
    "list schedule": passes.compose(passes.schedule()),
    "early": passes.compose(passes.hoist_starts(), passes.sink_waits(), passes.update_early()),
    "merged": passes.compose(passes.merge_updates(), passes.update_early()),
    "expanded": passes.compose(passes.expand_updates()),
}


def case(model, schedule, stages, optimizer, count=4, steps=3, cut=None):
    """Each rank's graph, state, and batches, in the order of the mesh; batches differ between replicas and steps."""
    table = schedule.table(FOUR.pp, count)
    made = optimize(models.programs_of(model, stages, count, table, optimizer=optimizer, mesh=FOUR))
    made = cut(made) if cut else made
    world = World(made, models.params_of(model), optimizer, models.buffers_of(model))
    state = [{f"state.{n}": t for n, t in rank.items()} for row in world.state for rank in row]
    state = [rank | {"state.step": torch.tensor(0)} for rank in state]
    data = [models.batch_of(count * FOUR.dp, seed=seed) for seed in range(steps)]
    rows = [[{f"batch.{n}": t.chunk(FOUR.dp)[d] for n, t in b.items()} for d in (0, 0, 1, 1)] for b in data]
    graphs = [graph_of(made, rank, optimizer) for rank in range(FOUR.pp)]
    return graphs, state, rows


def rotations(graphs, defer):
    """The rotated graphs of all four ranks."""
    ranks = [rotated(graph, defer) for graph in graphs]
    require_agreement(ranks)
    return ranks * FOUR.dp


def copied(states):
    return [{name: value.clone() for name, value in state.items()} for state in states]


@pytest.mark.parametrize("name", EXACT)
def test_passes_keep_the_bits(name):
    graphs, state, rows = case(models.chain, Interleaved1F1B(2), 4, CLIPPED)
    wanted = folded(graphs * FOUR.dp, state, rows, FOUR)
    changed = [EXACT[name](graph) for graph in graphs]
    assert same(list(folded(changed * FOUR.dp, state, rows, FOUR)), list(wanted))
    turned = rotations(changed, waits(axis="dp"))
    assert same(list(folded_rotated(turned, state, rows, FOUR, [1])), list(wanted))
    donated = [graphs.map(donate(lambda name: name.startswith(("state.", "carry.")))) for graphs in turned]
    assert same(list(folded_rotated(donated, copied(state), rows, FOUR, [1])), list(wanted))


@pytest.mark.parametrize(
    ("model", "schedule", "stages"),
    [
        (models.chain, GPipe(), 2),
        (models.weighted, OneFOneB(), 2),
        (models.normalized, OneFOneB(), 2),
        (models.chain, ZBV(), 4),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
@pytest.mark.parametrize("defer", [waits(axis="dp"), waits(0, axis="dp"), collectives()], ids=str)
def test_the_law(model, schedule, stages, defer):
    """With a global norm the deferred part holds a collective of all stages; with a weight, one of all ranks."""
    graphs, state, rows = case(model, schedule, stages, CLIPPED)
    wanted = folded(graphs * FOUR.dp, state, rows, FOUR)
    for flush_after in ((), (0, 1)):
        assert same(list(folded_rotated(rotations(graphs, defer), state, rows, FOUR, flush_after)), list(wanted))


def test_one_stage_may_defer_what_replicas_share():
    """Rank 0 defers its update, rank 1 does not."""
    graphs, state, rows = case(models.chain, OneFOneB(), 2, ADAMW)
    wanted = folded(graphs * FOUR.dp, state, rows, FOUR)
    turned = [rotated(graphs[0], waits(axis="dp")), rotated(graphs[1], updates(["step"]))]
    require_agreement(turned)
    assert same(list(folded_rotated(turned * FOUR.dp, state, rows, FOUR)), list(wanted))


def test_stages_that_defer_different_shares_of_the_norm_are_refused():
    graphs, _, _ = case(models.chain, OneFOneB(), 2, CLIPPED)
    one = rotated(graphs[0], collectives(axis="pp"))
    other = rotated(graphs[1], updates(lambda name: name.startswith("bucket.")))
    with pytest.raises(RotateError, match=r"have deferred different collectives on 'pp': in first, rank 0 starts none"):
        require_agreement([one, other])


def test_a_tied_leaf_is_updated_in_its_own_step():
    graphs, _, _ = case(models.tied, OneFOneB(), 2, ADAMW)
    with pytest.raises(RotateError, match=r"send_\d+ .* carries a message .* reads %param_words_1; another stage"):
        rotated(graphs[0], waits(axis="dp"))
    rotated(graphs[1], waits(axis="dp"))


def test_the_rest_of_its_stage_may_be_deferred_when_buckets_are_cut():
    graphs, state, rows = case(models.tied, OneFOneB(), 2, ADAMW, cut=passes.rebucket(60, 150))
    wanted = folded(graphs * FOUR.dp, state, rows, FOUR)
    assert [name for name in graphs[0].inputs if name.startswith("state.bucket.")] == [
        "state.bucket.s0_float32_part0",
        "state.bucket.s0_float32_part1",
    ]
    allowed = [number for number in (0, 1) if _may_defer(graphs[0], waits(number, axis="dp"))]
    assert len(allowed) == 1
    turned = [rotated(graphs[0], waits(*allowed, axis="dp")), rotated(graphs[1], waits(axis="dp"))]
    require_agreement(turned)
    assert same(list(folded_rotated(turned * FOUR.dp, state, rows, FOUR, [0])), list(wanted))


def _may_defer(graph, defer):
    try:
        rotated(graph, defer)
    except RotateError:
        return False
    return True


@pytest.fixture(scope="module")
def four():
    return fp.launch(four_ranks, 4, timeout=300)


def require_single_device(ranks, loss, optimizer):
    """The losses of each step and the parameters of every rank, against one process that plays all of it."""
    step = step_of(loss, optimizer, num_microbatches=4)
    state, losses = trained(step, params_of(), batches(STEPS))
    for rank in ranks:
        assert largest_loss_error(rank["losses"], losses) < 1e-6
        assert largest_error(rank["params"], step.gather(state)[0]) < 1e-6


@pytest.mark.parametrize("name", ["program", "graph", "waits"])
def test_four_processes_are_the_single_device(four, name):
    require_single_device([rank[name] for rank in four], loss_fn, MOMENTUM)


@pytest.mark.parametrize("name", ["clipped program", "clipped waits", "clipped collectives"])
def test_four_processes_with_weights_and_a_global_norm(four, name):
    require_single_device([rank[name] for rank in four], weighted, CLIPPED)


@pytest.mark.parametrize("name", ["graph", "waits", "clipped waits", "clipped collectives"])
def test_graphs_and_programs_give_the_same_bits(four, name):
    for rank in four:
        wanted = rank["clipped program" if name.startswith("clipped") else "program"]
        assert same_bits(rank[name], wanted)


@pytest.mark.full
def test_four_compiled_processes_are_the_single_device():
    ranks = fp.launch(four_compiled, 4, timeout=900)
    require_single_device([rank["waits"] for rank in ranks], weighted, CLIPPED)
