"""The same passes on the graphs of a pipelined step, whose leaves are flat buckets."""

import pytest
import torch

from funpipe import optim
from funpipe._typing import MeshShape
from funpipe.graphs import find
from funpipe.graphs.simulate import Ranks
from funpipe.passes import (
    bucket,
    compose,
    donate,
    expand_updates,
    fuse_updates,
    merge_updates,
    optimize,
    split_updates,
    update_early,
)
from funpipe.passes.optimizer.calls import is_update
from funpipe.programs import graph_of
from funpipe.schedules import OneFOneB
from tests.passes.optimizer.steps import assert_same_bits
from tests.programs.models import batch_of, chain, params_of, programs_of
from tests.programs.worlds import World

MESH = MeshShape(2, 2)
OPTIMIZER = optim.groups(
    {"slow": optim.adamw(1e-2), "fast": optim.sgd(0.1, momentum=0.9)},
    lambda name, leaf: "fast" if name.startswith("b") else "slow",
)
MADE = optimize(programs_of(chain, 2, 4, OneFOneB().table(2, 4), optimizer=OPTIMIZER, mesh=MESH))
GRAPHS = [graph_of(MADE, rank, OPTIMIZER) for rank in range(2)]
PLACES = [(d, r) for d in range(2) for r in range(2)]


def given():
    world = World(MADE, params_of(chain), OPTIMIZER, {})
    batch = batch_of(8, seed=0)
    return [
        {f"state.{n}": t.clone() for n, t in world.state[d][r].items()}
        | {f"batch.{n}": t.chunk(2)[d] for n, t in batch.items()}
        | {"state.step": torch.tensor(0)}
        for d, r in PLACES
    ]


def run(passes):
    graphs = [passes(graph) for graph in GRAPHS] if passes else GRAPHS
    return Ranks(MESH).run([graphs[r] for _, r in PLACES], given())


@pytest.mark.parametrize(
    "passes",
    [
        compose(split_updates(lambda leaf: leaf), merge_updates()),
        compose(bucket(), update_early()),
        compose(expand_updates(flat=True), donate()),
        compose(update_early(), donate()),
    ],
    ids=str,
)
def test_bits_stay(passes):
    for found, expected in zip(run(passes), run(None), strict=True):
        assert_same_bits(found, expected)


def test_flat_buckets_are_fused():
    passes = compose(fuse_updates(strict=True), donate())
    assert not find(passes(GRAPHS[0]), is_update)  # they overwrite
    for found, expected in zip(run(passes), run(None), strict=True):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6)
