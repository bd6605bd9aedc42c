import torch

from funpipe.stages.line import Line
from funpipe.tracing import trace
from tests.tracing.gpt import gpt

X = torch.ones(4, 3)


def test_a_boundary_lies_after_each_operation_and_before_its_readers_views():
    traced = trace(lambda p, x: (x @ p.t()).t().tanh().sum(), torch.ones(3, 3), X)
    assert [n.name for n in traced.forward] == ["t", "mm", "t_1", "tanh", "sum_1"]
    assert Line(traced).boundaries == (0, 2, 4, 5)


def test_items_stay_with_the_operation_that_makes_them():
    traced = trace(lambda p, x: torch.layer_norm(x, (3,), p).sum(), torch.ones(3), X)
    names = [n.name for n in traced.forward]
    assert names[0] == "native_layer_norm" and Line(traced).boundaries == (0, len(names) - 1, len(names))


def test_constants_and_trailing_views_own_no_boundary():
    traced = trace(lambda p, x: (x @ p + torch.arange(3)).sum().view(1)[0], torch.ones(3, 3), X)
    assert Line(traced).boundaries[-1] == len(traced.forward)


def test_a_backward_node_is_where_it_runs_if_every_boundary_is_a_cut():
    traced = trace(lambda p, x: torch.tanh(x @ p["a"] @ p["b"]).sum(), {k: torch.ones(3, 3) for k in "ab"}, X)
    line = Line(traced)
    segment = {n.name: line.assigned.stage[n] for n in (*traced.forward, *traced.backward) if n in line.assigned.stage}
    assert [segment[name] for name in ("mm", "mm_1", "tanh", "sum_1")] == [0, 1, 2, 3]
    assert segment["tanh_backward"] == 2
    assert [segment[n.name] for n in traced.backward if n.name.startswith("mm")] == [1, 1, 0]
    assert line.assigned.places == {"a": (0,), "b": (1,)}


def test_every_owned_node_has_a_segment():
    traced = trace(*gpt(blocks=2))
    line = Line(traced)
    owned = {n for n in (*traced.forward, *traced.backward) if not line.sources.floats(n)}
    assert owned == set(line.assigned.stage)
    assert set(line.assigned.stage.values()) == set(range(line.num_segments))
