import pytest
import torch
import torch.nn.functional as F

from funpipe.stages import Roofline
from funpipe.stages.costs import bytes_of, flops_of, types_of
from funpipe.tracing import trace

X = torch.ones(4, 3)


def node(loss, name):
    traced = trace(loss, torch.ones(3, 5), X)
    return next(n for n in traced.forward if n.name == name)


def product(p, x):
    return (x @ p).t().tanh().sum()


def test_a_product_counts_multiplications_and_additions():
    assert flops_of(node(product, "mm")) == 2 * 4 * 3 * 5


def test_attention_is_counted():
    def attention(p, x):
        q = (x @ p)[None, None]
        return F.scaled_dot_product_attention(q, q, q).sum()

    name = "_scaled_dot_product_flash_attention_for_cpu"
    assert flops_of(node(attention, name)) >= 2 * 2 * 4 * 4 * 5


def test_an_elementwise_operation_counts_its_elements():
    assert flops_of(node(product, "tanh")) == 20


def test_bytes_are_those_read_and_written():
    assert bytes_of(node(product, "mm")) == 4 * (4 * 3 + 3 * 5 + 4 * 5)


def test_an_operation_of_several_results_has_several_types():
    largest = node(lambda p, x: (x @ p).max(1).values.sum(), "max_1")
    assert [t.dtype for t in types_of(largest)] == [torch.float32, torch.int64]


def test_the_larger_of_the_two_times_counts():
    mm = node(product, "mm")
    assert Roofline(flops=1.0, bandwidth=1e9).node(mm) == 120
    assert Roofline(flops=1e9, bandwidth=1.0).node(mm) == bytes_of(mm)


def test_a_view_is_free():
    assert Roofline().node(node(product, "t")) == 0


def test_a_transfer_takes_its_bytes():
    assert Roofline(link=100.0).transfer(50) == pytest.approx(0.5)
