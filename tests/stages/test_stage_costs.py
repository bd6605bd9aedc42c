import torch

from funpipe.stages import Roofline, partition, rematerialise, saved_bytes, stage_costs
from funpipe.stages.costs import bytes_of
from funpipe.tracing import trace
from tests.tracing.gpt import gpt

X = torch.ones(4, 3)


class Counting:
    """Every operation takes a second."""

    def node(self, node):
        return 1.0

    def transfer(self, nbytes):
        return 0.0


def chain(p, x):
    return torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()


PARAMS = {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}


def test_the_backward_is_that_of_the_graph_and_not_a_multiple_of_the_forward():
    """The first stage has one product forward and one back: its input needs no gradient."""
    stages = partition(trace(lambda p, x: (x @ p["a"] @ p["b"]).sum(), PARAMS, X), (1,))
    costs = stage_costs(stages, Roofline(flops=1.0, bandwidth=1e30))
    assert costs.F[0] == costs.B[0] == 2 * 4 * 3 * 3


def test_what_others_wait_for_is_i_and_the_rest_w():
    stages = partition(trace(chain, PARAMS, X), (2,))
    costs = stage_costs(stages, Roofline(flops=1.0, bandwidth=1e30))
    assert costs.I[0] == 0 and costs.W[0] == costs.B[0]
    # mm of 4x2 by 2x3 and its tanh for the input, mm of 3x4 by 4x2 for the weights
    assert costs.W[1] == 2 * 3 * 4 * 2 and costs.I[1] + costs.W[1] == costs.B[1]


def test_values_that_skip_a_stage_go_straight_to_their_reader():
    def loss(p, x):
        first = x @ p["a"]
        return ((first @ p["a2"]) @ p["b"] + first[:, :2]).sum()

    params = {**PARAMS, "a2": torch.ones(3, 3)}
    costs = stage_costs(partition(trace(loss, params, X), (1, 2)))
    assert costs.edges[0, 2] == costs.edges[0, 1] == 48
    assert costs.forward_bytes == (48, 96) and costs.received(2, forward=False) == 0


def test_a_tied_leaf_lives_once_and_is_held_by_its_readers():
    traced = trace(*gpt(blocks=1))
    stages = partition(traced, (len(traced.forward) // 2,))
    costs = stage_costs(stages)
    everything = sum(kind.nbytes for kind in traced.params.values())
    words = traced.params["words.weight"].nbytes
    assert sum(costs.owned) == everything and sum(costs.held) == everything + words
    assert costs.saved == tuple(map(saved_bytes, stages))


def test_rematerialised_values_are_computed_twice():
    (stage,) = partition(trace(chain, PARAMS, X), ())
    (again,) = rematerialise((stage,), "full")
    before, after = (stage_costs([s], Counting()) for s in (stage, again))
    assert after.F == before.F and after.B[0] > before.B[0] and after.saved == (0,)


def test_one_of_several_results_is_free():
    traced = trace(lambda p, x: (x @ p["a"]).max(1).values.sum(), PARAMS, X)
    items = [n for n in traced.forward if "getitem" in n.name]
    assert items and all(bytes_of(n) > 0 and Roofline().node(n) == 0 for n in items)


def test_it_prints_a_line_a_stage():
    text = stage_costs(partition(trace(chain, PARAMS, X), (2,))).as_text()
    assert len(text.splitlines()) == 3 and "saved MiB" in text and "B ms" in text
