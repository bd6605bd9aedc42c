"""The passes on pipelined steps with replicas: two ranks of two stages each, twice."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

import funpipe as fp
from funpipe._typing import MeshShape
from funpipe.graphs import Graph, find, simulate
from funpipe.graphs.communication import channels, is_start
from funpipe.passes import Pass, bucket, compose, dedupe, hoist_starts, optimize, schedule, sink_waits
from funpipe.programs import Programs, lower
from funpipe.programs.graph_of import graph_of

MESH = MeshShape(pp=2, dp=2)
OPTIMIZER = fp.optim.chain(fp.optim.clip_by_global_norm(1.0), fp.optim.adam(1e-2))
ORDERS: dict[str, Callable[[], tuple[Pass, ...]]] = {
    "ready first": lambda: (bucket(1, 1),),
    "concat": lambda: (dedupe(), bucket(1 << 20), hoist_starts(), sink_waits()),
    "coalesced": lambda: (bucket(1 << 20, mode="coalesced"), schedule(growth=1.0)),
    "schedule": lambda: (schedule(growth=1.0),),
}


def loss_fn(params, x):
    """Eight layers."""
    for name in sorted(params):
        x = torch.tanh(x @ params[name])
    return x.square().mean()


@cache
def programs() -> Programs:
    """An interleaved schedule, whose ranks finish the backward of one stage long before that of the other."""
    params = {f"w{i}": torch.ones(6, 6) for i in range(8)}
    traced = fp.trace(loss_fn, params, torch.ones(2, 6))
    stages = fp.stages.partition(traced, (4, 8, 12))
    table = fp.schedules.Interleaved1F1B(stages_per_rank=2).table(2, 4)
    return optimize(lower(traced, stages, table, optimizer=OPTIMIZER, mesh=MESH))


def inputs_of(graphs: list[Graph]) -> list[dict[str, torch.Tensor]]:
    """Replicas have the same state and a batch each."""
    drawn = []
    for rank, graph in enumerate(graphs):
        given = {}
        for at, (name, kind) in enumerate(graph.inputs.items()):
            seed = 100 + rank // MESH.pp if name.startswith("batch") else at
            generator = torch.Generator().manual_seed(seed)
            given[name] = torch.rand(kind.shape, generator=generator).to(kind.dtype)
        drawn.append(given)
    return drawn


def on_all_ranks(order: tuple[Pass, ...]) -> list[Graph]:
    """The graphs of the four ranks, each through the passes by itself."""
    return [compose(*order)(graph_of(programs(), rank, OPTIMIZER)) for rank in (0, 1)] * MESH.dp


@pytest.mark.parametrize("order", ORDERS)
def test_every_rank_gets_the_bits_of_the_program(order):
    before, after = on_all_ranks(()), on_all_ranks(ORDERS[order]())
    inputs = inputs_of(before)
    for old, new in zip(simulate(before, inputs, MESH), simulate(after, inputs, MESH), strict=True):
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert channels(after[0])["messages"] == channels(before[0])["messages"]


def test_a_stage_that_is_done_early_is_reduced_while_the_other_goes_on():
    """The program reduces stage 0 first, whose backward is the last work of the step; stage 2 was done before it."""
    (graph,) = on_all_ranks(())[:1]
    last = channels(graph)["messages"][-1]
    assert all(graph.positions[node.name] > graph.positions[last] for node in find(graph, is_start))
    (made,) = on_all_ranks((bucket(1, 1),))[:1]
    first, second = (made.positions[name] for name in channels(made)["dp"])
    assert first < made.positions[last] < second
