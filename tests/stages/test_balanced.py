import time
from dataclasses import dataclass
from itertools import combinations, pairwise

import pytest
import torch
from torch import nn

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.functional import Out, functionalize
from funpipe.stages import Roofline, balanced, partition
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


def test_it_is_the_best_of_all_cuts():
    loss, params, batch = gpt(blocks=1)
    traced = trace(loss, params, batch)
    line, costs = Line(traced), Roofline()
    moved = line.moved()

    def slowest(inner):
        bounds = (0, *inner, len(line.boundaries) - 1)
        return max(
            3 * sum(map(costs.node, traced.forward[line.boundaries[i] : line.boundaries[j]]))
            + costs.transfer(int(moved[i, j]))
            for i, j in pairwise(bounds)
        )

    best = min(combinations(range(1, len(line.boundaries) - 1), 2), key=lambda inner: (slowest(inner), inner))
    assert slowest(best) == pytest.approx(slowest([line.boundaries.index(c) for c in balanced(3)(traced)]), rel=1e-6)


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
