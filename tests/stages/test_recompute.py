"""The graph of a backward that computes values again."""

import torch

from funpipe.stages import Roofline, Stage, partition, rematerialise
from funpipe.stages.recompute import recompute
from funpipe.stages.saved import nodes_of, values_of
from funpipe.tracing import trace
from tests.stages.recomputed import again_nodes, computed_again

X = torch.linspace(0, 1, 12).view(4, 3)
CHAIN = {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}


def chain(p, x):
    return torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()


def with_saved(stage: Stage, *names: str) -> Stage:
    nodes = nodes_of(stage)
    chosen = values_of(stage, Roofline()).choice(i for i, node in enumerate(nodes) if node.name in names)
    return recompute(stage, [nodes[i] for i in chosen.saved], [nodes[i] for i in chosen.again], frozenset())


def test_the_text_of_a_stage_shows_what_is_computed_again():
    (stage,) = rematerialise(partition(trace(chain, CHAIN, X), ()), "full")
    assert computed_again(stage) == ["mm", "tanh", "mm_1", "tanh_1"]
    assert "mm_1_recomputed = aten.mm.default(tanh_recomputed, x" in stage.B.as_text()
    assert all("test_recompute.py" in n.meta["source"] for n in again_nodes(stage))


def test_a_value_is_computed_again_right_before_it_is_read():
    """The second layer's input is saved: the first layer is computed again when the second is differentiated."""

    def loss(p, x):
        h = torch.exp(torch.tanh(x @ p["a"]))
        return torch.exp(torch.tanh(h @ p["b"])).sum()

    (before,) = partition(trace(loss, CHAIN, X), ())
    stage = with_saved(before, "exp", "sum_1")
    assert set(stage.F.outputs) == {"exp", "sum_1"}
    names = [n.name for n in stage.B.module.graph.nodes]
    order = ["expand", "mm_1_recomputed", "mul", "mm_3", "mm_recomputed", "tanh_recomputed", "mm_4"]
    assert [name for name in names if name in order] == order


def test_a_view_is_not_taken_twice():
    def loss(p, x):
        return torch.tanh(torch.tanh(x @ p["a"]).t() @ x @ p["b"]).sum()

    (stage,) = rematerialise(partition(trace(loss, CHAIN, X), ()), "full")
    assert stage.B.as_text().count("aten.t.default(tanh_recomputed)") == 1


def test_a_value_that_was_not_saved_before():
    stage = with_saved(*partition(trace(chain, CHAIN, X), ()), "mm", "sum_1")
    assert stage.F.outputs == ("sum_1", "mm")
    assert "mm" in stage.B.inputs and computed_again(stage) == ["tanh", "mm_1", "tanh_1"]
