"""What the grid says of a stage is what the partition makes of it."""

from itertools import combinations

import pytest
import torch

from funpipe.stages import Roofline, partition, stage_costs
from funpipe.stages.amounts import Amounts
from funpipe.stages.line import Line
from funpipe.tracing import trace
from tests.tracing.gpt import gpt

X = torch.ones(8, 16)
SLOTS = 2


def of_grid(amounts, bounds):
    """For each stage its seconds, and the bytes that it receives, holds and saves."""
    found = amounts.grid(SLOTS).stages(bounds)
    seconds = [t / amounts.scale for t in found.time.tolist()]
    return list(zip(seconds, found.received.tolist(), found.resident.tolist(), found.saved.tolist(), strict=True))


def of_partition(traced, line, bounds, costs):
    """The same, read off the regions."""
    stages = partition(traced, tuple(line.boundaries[b] for b in bounds[1:-1]))
    found = stage_costs(stages, costs)
    rows = []
    for s, stage in enumerate(stages):
        accumulators = sum(len(places) * traced.params[leaf].nbytes for leaf, places in stage.terms.items())
        received = found.received(s)
        seconds = found.F[s] + found.B[s] + (costs.transfer(received) if received else 0.0)
        rows.append((seconds, received, found.held[s] + SLOTS * found.owned[s] + accumulators, found.saved[s]))
    return rows


def assert_same(traced, bounds):
    line, costs = Line(traced), Roofline()
    found, wanted = of_grid(Amounts(line, costs), bounds), of_partition(traced, line, bounds, costs)
    assert [row[1:] for row in found] == [row[1:] for row in wanted]
    assert [row[0] for row in found] == pytest.approx([row[0] for row in wanted], rel=1e-6)


def test_of_layers():
    params = {f"w{i}": torch.ones(16, 16) for i in range(4)}

    def loss(p, x):
        for w in p.values():
            x = torch.relu(x @ w)
        return x.sum()

    traced = trace(loss, params, X)
    size = Line(traced).num_segments
    for low, high in combinations(range(1, size), 2):
        assert_same(traced, (0, low, high, size))


def test_frozen_and_tied_leaves_count_once_in_a_stage():
    frozen = torch.ones(16, 16).requires_grad_(False)
    params = {"frozen": frozen, "tied": torch.ones(16, 16).requires_grad_()}

    def loss(p, x):
        for _ in range(3):
            x = torch.tanh(x @ p["tied"]) @ p["frozen"]
        return x.sum()

    traced = trace(loss, params, X)
    line = Line(traced)
    held = [row[2] for row in of_grid(Amounts(line, Roofline()), (0, 6, line.num_segments))]
    leaf = 16 * 16 * 4
    # Where it lives: frozen, tied with two slots, and two accumulators; then a copy of each, and one accumulator.
    assert held == [leaf * (1 + 3 + 2), leaf * (1 + 1 + 1)]


def test_a_constant_costs_once_in_each_region_that_needs_it():
    def loss(p, x):
        mask = torch.arange(16).float().cumsum(0).cumsum(0)
        return ((x * mask) @ p * mask * mask).sum()

    traced = trace(loss, torch.ones(16, 16), X)
    for cut in range(1, Line(traced).num_segments):
        assert_same(traced, (0, cut, Line(traced).num_segments))


def test_without_memory_nothing_is_held():
    grid = Amounts(Line(trace(*gpt(blocks=1))), Roofline()).grid()
    assert not grid.resident.dense().any() and not grid.saved.dense().any()
