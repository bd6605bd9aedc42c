import torch

from funpipe.tracing import trace
from funpipe.tracing.traced import Traced

X = torch.ones(4, 3)


def names(traced: Traced, leaf: str) -> list[str]:
    return [n.name for n in traced.gradients[leaf]]


def test_one_use_is_one_place():
    traced = trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 3)}, X)
    assert names(traced, "w") == ["mm_1"]


def test_places_are_in_trace_order_and_their_additions_are_gone():
    traced = trace(lambda p, x: (x @ p["w"] @ p["w"] @ p["w"]).sum(), {"w": torch.ones(3, 3)}, X)
    order = [n.name for n in traced.backward]
    assert len(names(traced, "w")) == 3
    assert names(traced, "w") == sorted(names(traced, "w"), key=order.index)
    assert not any(n.target is torch.ops.aten.add.Tensor for n in traced.backward)


def test_an_addition_that_something_else_reads_is_not_taken_apart():
    def loss(p, x):
        w = p["w"] * 1.5
        return (x @ w @ w).sum()

    traced = trace(loss, {"w": torch.ones(3, 3)}, X)
    assert len(names(traced, "w")) == 1
    assert any(n.target is torch.ops.aten.add.Tensor for n in traced.backward)


def test_a_sum_that_is_the_gradient_of_two_leaves_is_taken_apart_in_both():
    def loss(p, x):
        w = p["a"] + p["b"]
        return (x @ w @ w).sum()

    traced = trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 3)}, X)
    assert names(traced, "a") == names(traced, "b")
    assert len(names(traced, "a")) == 2
