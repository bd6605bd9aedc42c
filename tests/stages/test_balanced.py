import time
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import pytest
import torch
from torch import nn

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.functional import Out, functionalize
from funpipe.stages import Memory, Roofline, balanced, partition, saved_bytes, stage_costs
from funpipe.stages.line import Line
from funpipe.tracing import trace
from tests.tracing.gpt import gpt

X = torch.ones(8, 16)


def layers(count):
    params = {f"w{i}": torch.ones(16, 16) for i in range(count)}

    def loss(p, x):
        for i in range(count):
            x = torch.tanh(x @ p[f"w{i}"])
        return x.sum()

    return trace(loss, params, X)


@dataclass(frozen=True)
class Free:
    """Every operation takes one second; moving costs nothing, or so much a byte."""

    byte: float = 0.0

    def node(self, node):
        return 1.0

    def transfer(self, nbytes):
        return nbytes * self.byte


def test_equal_layers_are_cut_equally():
    stages = partition(traced := layers(8), balanced(4)(traced))
    assert [len(s.owned) for s in stages] == [2, 2, 2, 2]


def test_one_stage_has_no_cuts():
    assert balanced(1)(layers(2)) == ()


def test_a_cut_lies_right_after_an_operation():
    loss, params, batch = gpt(blocks=3)
    traced = trace(loss, params, batch)
    for cut in balanced(4)(traced):
        assert cut in Line(traced).boundaries


def slowest(traced, cuts, costs):
    """The time of the slowest stage, read off the regions of the partition."""
    found = stage_costs(partition(traced, cuts), costs)
    received = [found.received(s) for s in range(len(found.F))]
    transfers = [costs.transfer(nbytes) if nbytes else 0.0 for nbytes in received]
    return max(f + b + t for f, b, t in zip(found.F, found.B, transfers, strict=True))


def chain(widths, rows=8):
    params = {f"w{i}": torch.ones(pair) for i, pair in enumerate(pairwise(widths))}

    def loss(p, x):
        for w in p.values():
            x = torch.relu(x @ w)
        return x.sum()

    return trace(loss, params, torch.ones(rows, widths[0]))


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("widths", [(16, 4, 32, 8, 16), (2, 64, 2, 64, 32), (8, 8, 8, 8, 8)])
@pytest.mark.parametrize("costs", [Roofline(), Roofline(link=1e9), Roofline(flops=1e9, bandwidth=1e12)])
def test_it_is_the_best_of_all_cuts(count, widths, costs):
    """Times are those of the partition itself: forward and backward nodes, and what crosses."""
    traced = chain(widths)
    boundaries = Line(traced).boundaries[1:-1]
    best = min(slowest(traced, cuts, costs) for cuts in combinations(boundaries, count - 1))
    assert slowest(traced, balanced(count, costs)(traced), costs) == pytest.approx(best, rel=1e-9)


def held(traced, cuts, memory, ranks):
    """The bytes of each rank, read off the regions: leaves once a rank, slots and accumulators, saved values."""
    stages = partition(traced, cuts)
    total = [0] * (max(ranks) + 1)
    for rank in range(len(total)):
        mine = [s for s in stages if ranks[s.index] == rank]
        leaves = {n for s in mine for n in (*s.params, *s.owned)}
        total[rank] += sum(traced.params[n].nbytes for n in leaves)
    for stage, in_flight in zip(stages, memory.stages_in_flight(len(stages)), strict=True):
        rank = ranks[stage.index]
        total[rank] += sum(round(memory.slots * traced.params[n].nbytes) for n in stage.owned)
        total[rank] += sum(len(places) * traced.params[n].nbytes for n, places in stage.terms.items())
        total[rank] += int(in_flight) * saved_bytes(stage)
    return total


def tied(rows=8):
    """A chain whose first and last products share their weights, and whose second ones are frozen."""
    params = {"tied": torch.ones(16, 16), "a": torch.ones(16, 16), "b": torch.ones(16, 16)}
    params = {n: p.requires_grad_() for n, p in params.items()} | {"frozen": torch.ones(16, 16)}

    def loss(p, x):
        for name in ("tied", "frozen", "a", "b", "frozen", "tied"):
            x = torch.relu(x @ p[name])
        return x.sum()

    return trace(loss, params, torch.ones(rows, 16))


@pytest.mark.parametrize(
    ("ranks", "in_flight"), [((0, 1, 2), (3, 2, 1)), ((0, 1, 0), (3, 2, 1)), ((0, 1, 1, 0), (4, 3, 2, 1))]
)
def test_with_a_limit_it_is_the_best_of_all_cuts_that_keep_it(ranks, in_flight):
    traced, costs = tied(), Roofline()
    memory = Memory(0, in_flight, 2.0, ranks)
    every = list(combinations(Line(traced).boundaries[1:-1], len(ranks) - 1))
    most = {cuts: max(held(traced, cuts, memory, ranks)) for cuts in every}
    times = {cuts: slowest(traced, cuts, costs) for cuts in every}
    for limit in sorted(set(most.values()))[::7]:
        best = min(times[cuts] for cuts in every if most[cuts] <= limit)
        found = balanced(len(ranks), costs, replace(memory, limit=limit))(traced)
        assert most[found] <= limit and times[found] <= best * (1 + 1e-9)


@pytest.mark.parametrize("ranks", [(0, 1, 2), (0, 1, 0)])
def test_a_limit_that_no_cut_keeps_names_the_rank_and_the_least_that_would_do(ranks):
    traced = tied()
    memory = Memory(0, 1, 2.0, ranks)
    every = combinations(Line(traced).boundaries[1:-1], len(ranks) - 1)
    least = min(max(held(traced, cuts, memory, ranks)) for cuts in every)
    with pytest.raises(
        StageError,
        match=rf"no cut into 3 stages keeps the limit of 1000 bytes .* rank \d, would hold {least}, which is "
        rf"{least - 1000} too many\. Allow at least {least} bytes, .* or use a schedule with fewer of them in flight\.",
    ):
        balanced(3, memory_limit=replace(memory, limit=1000))(traced)
    balanced(3, memory_limit=replace(memory, limit=least))(traced)


def test_a_plain_limit_is_for_1f1b_with_adam():
    assert balanced(3, memory_limit=10**6) == balanced(3, memory_limit=Memory(10**6, None, 2.0, None))


def test_a_limit_of_another_type():
    with pytest.raises(FunpipeTypeError, match=r"a memory limit is '1 GiB'; pass the number of bytes as an int\."):
        balanced(2, memory_limit="1 GiB")  # pyright: ignore[reportArgumentType]


def test_costs_decide():
    traced = layers(4)
    even = balanced(2, costs=Free())(traced)
    assert [len(s.owned) for s in partition(traced, even)] == [2, 2]


def test_a_dear_link_moves_the_cut_to_a_narrow_value():
    def loss(p, x):
        h = torch.tanh(x @ p["wide"])
        h = torch.tanh(h @ p["narrow"])
        return torch.tanh(torch.tanh(h @ p["wide2"])).sum()

    params = {"wide": torch.ones(16, 64), "narrow": torch.ones(64, 2), "wide2": torch.ones(2, 64)}
    traced = trace(loss, params, X)
    (cut,) = balanced(2, costs=Free(byte=1.0))(traced)
    assert traced.forward[cut - 1].meta["val"].shape in ((8, 2), (8, 2))


def test_of_equally_slow_cuts_the_one_that_moves_less_is_taken():
    def loss(p, x):
        h = x @ p["narrow"]
        h = torch.tanh(torch.tanh(h @ p["wide"]))
        return h.sum()

    traced = trace(loss, {"narrow": torch.ones(16, 2), "wide": torch.ones(2, 64)}, X)
    (cut,) = balanced(2, costs=Nothing())(traced)
    assert traced.forward[cut - 1].meta["val"].shape == (8, 2)


class Nothing(Free):
    """Everything is free."""

    def node(self, node):
        return 0.0


def test_operations_that_touch_an_updated_buffer_stay_together():
    def loss(p, x, *, buffers):
        h = torch.tanh(x @ p) - buffers["mean"]
        new = buffers["mean"] * 0.9 + h.detach().mean(0)
        return Out(h.sum(), buffers={"mean": new})

    traced = trace(loss, torch.ones(16, 4), X, buffers={"mean": torch.ones(4)})
    assert len(Line(traced).boundaries) < len(traced.forward) + 1
    for n in range(1, len(Line(traced).boundaries)):
        assert len(partition(traced, balanced(n, costs=Free())(traced))) == n


def test_batch_norm_can_be_cut_anywhere():
    module = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())))
    apply, params, buffers = functionalize(module)

    def loss(p, x, *, buffers):
        out, buffers = apply(p, buffers, x)
        return Out(out.sum(), buffers=buffers)

    traced = trace(loss, params, X, buffers=buffers)
    for n in range(1, 8):
        assert len(partition(traced, balanced(n)(traced))) == n


def test_more_stages_than_operations():
    traced = trace(lambda p, x: (x @ p.t()).sum(), torch.ones(2, 16), X)
    assert balanced(2)(traced) == (2,)
    with pytest.raises(StageError, match=r"balanced\(3\) asks for more stages .* it has 2 operations .* at most that"):
        balanced(3)(traced)


@pytest.mark.parametrize("n", [2.0, "2", True, None])
def test_a_number_of_another_type(n):
    with pytest.raises(FunpipeTypeError, match=r"balanced got .*; pass the number of stages as an int\."):
        balanced(n)


def test_no_stages():
    with pytest.raises(StageError, match=r"balanced got 0 stages; pass an int of at least 1\."):
        balanced(0)


def test_it_is_a_value():
    assert balanced(4) == balanced(4, Roofline()) and hash(balanced(4)) == hash(balanced(4))
    assert balanced(4) != balanced(4, Roofline(flops=1e12))


def test_a_long_graph_is_cut_fast():
    traced = layers(200)
    start = time.perf_counter()
    balanced(8)(traced)
    assert time.perf_counter() - start < 5  # 0.2 s on a quiet machine
