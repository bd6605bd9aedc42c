"""A rank's program as a graph computes what the program computes, to the bit."""

import pytest
import torch

from funpipe import optim
from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import check
from funpipe.graphs.simulate import Ranks
from funpipe.passes import optimize
from funpipe.programs import graph_of
from funpipe.programs.instructions import Send
from funpipe.schedules import ZBV, DualPipeV, GPipe, Interleaved1F1B, InterleavedZeroBubble, OneFOneB
from tests.programs.models import (
    batch_of,
    buffers_of,
    chain,
    normalized,
    params_of,
    programs_of,
    skipping,
    tied,
    weighted,
)
from tests.programs.worlds import World

ADAMW = optim.adamw(1e-2)
CLIPPED = optim.chain(optim.clip_by_global_norm(0.05), optim.adamw(1e-2))
PLAIN, REPLICAS = MeshShape(2, 1), MeshShape(2, 2)


def programs(model, schedule, stages, optimizer, mesh, count=4, **options):
    table = schedule.table(mesh.pp, count)
    return optimize(programs_of(model, stages, count, table, optimizer=optimizer, mesh=mesh, **options))


def require_same(model, made, optimizer, steps=2, updates="node"):
    """Both, step by step, on all ranks of all replicas."""
    mesh, world = made.mesh, World(made, params_of(model), optimizer, buffers_of(model))
    graphs = [graph_of(made, rank, optimizer, updates=updates) for rank in range(mesh.pp)]
    places = [(d, r) for d in range(mesh.dp) for r in range(mesh.pp)]
    ranks = Ranks(mesh)
    for step in range(steps):
        batch = batch_of(made.num_microbatches * mesh.dp, seed=step)
        given = [_inputs(world, batch, d, r) for d, r in places]
        found = ranks.run([graphs[r] for _, r in places], given)
        world.step(batch)
        for (d, r), outputs in zip(places, found, strict=True):
            wanted = _outputs(world, made.programs[r], d, r, optimizer)
            assert outputs.keys() == wanted.keys()
            assert all(torch.equal(outputs[name], value) for name, value in wanted.items())


def _inputs(world, batch, replica, rank):
    shares = {f"batch.{n}": t.chunk(world.programs.mesh.dp)[replica] for n, t in batch.items()}
    state = {f"state.{n}": t for n, t in world.state[replica][rank].items()}
    return state | shares | {"state.step": torch.tensor(world.steps)}


def _outputs(world, program, replica, rank, optimizer):
    values = world.values[replica][rank]
    results = {f"aux.{n}": values[v] for n, v in program.outputs.items() if not n.startswith("buffer.")}
    step = torch.tensor(world.steps - (optimizer is None))
    return results | {f"state.{n}": t for n, t in world.state[replica][rank].items()} | {"state.step": step}


@pytest.mark.parametrize("model", [chain, weighted, tied, skipping, normalized])
def test_models(model):
    require_same(model, programs(model, OneFOneB(), 2, CLIPPED, REPLICAS), CLIPPED)


@pytest.mark.parametrize("model", [chain, weighted])
def test_one_replica(model):
    require_same(model, programs(model, OneFOneB(), 2, CLIPPED, PLAIN), CLIPPED)


@pytest.mark.parametrize(
    ("schedule", "stages"),
    [(GPipe(), 2), (Interleaved1F1B(2), 4), (ZBV(), 4), (InterleavedZeroBubble(2), 4), (DualPipeV(), 4)],
    ids=lambda value: type(value).__name__,
)
def test_schedules(schedule, stages):
    require_same(tied, programs(tied, schedule, stages, ADAMW, REPLICAS), ADAMW)


def test_more_ranks():
    require_same(tied, programs(tied, OneFOneB(), 4, CLIPPED, MeshShape(4, 2)), CLIPPED)


@pytest.mark.parametrize("optimizer", [CLIPPED, optim.sgd(0.1, momentum=0.9)], ids=str)
def test_updates_as_the_operators_of_the_optimizer(optimizer):
    require_same(chain, programs(chain, OneFOneB(), 2, optimizer, REPLICAS), optimizer, updates="expanded")


def test_groups_of_leaves():
    parts = {"slow": optim.adamw(1e-3), "fast": optim.sgd(0.1, momentum=0.9)}
    optimizer = optim.groups(parts, lambda name, leaf: "fast" if name.startswith("b") else "slow")
    require_same(chain, programs(chain, OneFOneB(), 2, optimizer, REPLICAS), optimizer)


def test_averaged_buffers():
    require_same(normalized, programs(normalized, OneFOneB(), 2, ADAMW, REPLICAS, mean_buffers=True), ADAMW)


def test_gradients_without_an_optimizer():
    made = programs(chain, OneFOneB(), 2, None, REPLICAS)
    require_same(chain, made, None)
    outputs = graph_of(made, 0).outputs
    assert list(outputs) == ["state.bucket.s0_float32", "state.step", "aux.grad.s0_float32"]


def test_names_and_places():
    """Every rank takes the whole batch; a region's nodes keep name, line and region."""
    graph = graph_of(programs(chain, OneFOneB(), 2, ADAMW, REPLICAS), 1, ADAMW)
    assert {n for n in graph.inputs if n.startswith("batch.")} == {"batch.y", "batch.x", "batch.ids", "batch.weight"}
    node = next(n for n in graph.nodes if n.name == "mm_1_mb3")
    assert node.origin == "F1" and "models.py:" in str(node.source)
    assert graph.objects[str(ADAMW)] is ADAMW


def test_a_start_and_its_wait():
    graph = graph_of(programs(chain, OneFOneB(), 2, ADAMW, REPLICAS), 0, ADAMW)
    start, wait = (next(n for n in graph.nodes if n.target is getattr(OPERATORS, k).default) for k in _PAIR)
    assert wait.reads == (start.name,) and start.args[1:] == ("sum", "dp")
    check(graph)


_PAIR = ("all_reduce", "wait_tensor")


def test_messages_are_those_of_the_plan():
    made = programs(tied, ZBV(), 4, ADAMW, PLAIN)
    graph = graph_of(made, 1, ADAMW)
    wanted = [i.message for i in made.programs[1].instructions if isinstance(i, Send)]
    assert [n.args[1] for n in graph.nodes if n.target is OPERATORS.send.default] == wanted


def test_constants():
    table = torch.arange(6.0)
    made, traced = _with_constant(table)
    graph = graph_of(made, 0, ADAMW, traced.consts)
    assert [t.tolist() for t in graph.constants.values()] == [table.tolist()]
    with pytest.raises(ProgramError, match=r"reads the constant '.*': pass consts=traced\.consts\."):
        graph_of(made, 0, ADAMW)


def _with_constant(table):
    import funpipe as fp

    traced = fp.trace(lambda p, x: (x @ p["w"] * table).sum(), {"w": torch.ones(3, 6)}, torch.ones(4, 3))
    return fp.programs.lower(traced, fp.stages.partition(traced, ()), GPipe().table(1, 2), optimizer=ADAMW), traced


def test_an_optimizer_that_closes_over_a_tensor():
    """A tensor made outside becomes a constant of the graph."""
    rate = torch.tensor([0.5])
    optimizer = optim.Optimizer(
        init=lambda params: {},
        update=lambda grads, state, params, ctx: ({n: p - rate * grads[n] for n, p in params.items()}, state),
        name="closing",
    )
    made = programs(chain, OneFOneB(), 2, optimizer, PLAIN)
    require_same(chain, made, optimizer, updates="expanded")
    assert list(graph_of(made, 0, optimizer, updates="expanded").constants) == ["const.constant_0"]


def test_mistakes():
    made = programs(chain, OneFOneB(), 2, ADAMW, PLAIN)
    with pytest.raises(ProgramError, match=r"updates s0_float32, but no optimizer was given: pass the one it was"):
        graph_of(made, 0)
    with pytest.raises(ProgramError, match=r"rank is 2, but there are 2: pass 0 to 1\."):
        graph_of(made, 2, ADAMW)
    with pytest.raises(ProgramError, match=r"updates is 'nodes'; use 'node' or 'expanded'\."):
        graph_of(made, 0, ADAMW, updates="nodes")


def test_a_parameter_is_a_view_of_its_bucket_made_once():
    made = programs(tied, OneFOneB(), 2, ADAMW, PLAIN)
    names = [n.name for n in graph_of(made, 0, ADAMW).nodes if n.name.startswith("param_")]
    assert names == ["param_w0", "param_words", "param_words_1"]  # the last is the new one, which is sent
