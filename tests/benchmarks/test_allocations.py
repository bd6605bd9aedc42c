"""Counting the memory of tensors."""

import torch

from tests.benchmarks.allocations import held, highest, rise


def test_a_rise_is_the_most_at_once():
    def work():
        a = torch.empty(2_000_000, dtype=torch.uint8)
        del a
        b, c = (torch.empty(1_500_000, dtype=torch.uint8) for _ in range(2))
        return len(b) + len(c)

    assert 3_000_000 <= rise(work) < 3_010_000


def test_a_rise_counts_what_a_backward_saves_and_frees():
    w = torch.ones(1000, requires_grad=True)

    def work():
        (w.exp() * w).sum().backward()
        w.grad = None

    assert 12_000 <= rise(work) < 40_000


def test_nothing_does_not_rise():
    assert rise(lambda: None) == 0


def test_held_counts_each_memory_once():
    before = held()
    a = torch.zeros(1_000_000, dtype=torch.uint8)
    views = [a[:10], a.view(1000, 1000)]
    assert held() - before == 1_000_000
    del a, views
    assert held() == before


def test_frees_are_subtracted_in_the_order_of_time():
    def event(ts: int, size: int) -> dict:
        return {"name": "[memory]", "ts": ts, "args": {"Bytes": size, "Device Type": 0}}

    assert highest([event(2, -5), event(1, 5), event(3, 4), {"name": "other"}]) == 5
