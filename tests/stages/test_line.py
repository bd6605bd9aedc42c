import torch

from funpipe.stages import crossing, partition
from funpipe.stages.line import Line
from funpipe.tracing import trace

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


def skipping(p, x):
    first = x @ p["a"]
    second = torch.tanh(first @ p["b"])
    return (second * first[:, :2]).sum()


def test_what_moves_into_each_stage():
    traced = trace(skipping, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, X)
    moved = Line(traced).moved()
    first, second = 2 * 4 * 3 * 4, 2 * 4 * 2 * 4  # both ways, 4 bytes each
    assert moved[0].tolist() == [0, 0, 0, 0, 0, 0]
    assert moved[1, 2:].tolist() == [first, first, first, first]
    assert moved[2, 3:].tolist() == [second, first + second, first + second]
    assert moved[3, 4:].tolist() == [first + second, first + second]


def test_it_moves_what_the_partition_sends_forward():
    traced = trace(skipping, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, X)
    line = Line(traced)
    moved = line.moved()
    for cut in range(1, len(line.boundaries) - 1):
        stages = partition(traced, (line.boundaries[cut],))
        sent = [v for v, (maker, readers) in crossing(stages).items() if maker == 0]
        assert 2 * sum(stages[0].F.types[v].nbytes for v in sent) == moved[cut, -1]


def test_integers_have_no_way_back():
    def loss(p, x):
        best = (x @ p).argmax(1)
        return (torch.nn.functional.one_hot(best, 3) @ (p @ p).long()).sum() * p.sum()

    traced = trace(loss, torch.ones(3, 3), X)
    line = Line(traced)
    position = next(i for i, n in enumerate(traced.forward) if "argmax" in n.name)
    assert line.moved()[line.boundaries.index(position + 1), -1] == 4 * 8
