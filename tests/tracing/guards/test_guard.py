import pytest
import torch
from torch import fx

from funpipe.tracing import trace
from funpipe.tracing.guards import is_real
from funpipe.tracing.guards.guard import reader

PARAMS = {"w": torch.ones(3, 2)}
TABLE = torch.tensor([1.0, 2.0, 3.0])


def guards_of(read, x=None):
    """The guards of a loss that reads a value."""
    return trace(lambda p, x: (x @ p["w"]).sum() * read(x), PARAMS, torch.ones(4, 3) if x is None else x).guards


def test_a_guard_reads_the_value_of_another_batch():
    (guard,) = guards_of(lambda x: float((x * 2).sum()))
    assert (guard.value, guard.leaves) == (24.0, (("batch", ""),))
    assert guard.read({("batch", ""): torch.zeros(4, 3)}) == 0.0


def test_equal_graphs_have_equal_texts_and_others_have_not():
    (one,), (same,) = guards_of(lambda x: (x * 2).sum().item()), guards_of(lambda x: (x * 2).sum().item())
    assert (
        one.text
        == same.text
        == "v1 = aten.mul.Tensor(batch '', 2); v2 = aten.sum.default(v1); " + ("aten._local_scalar_dense.default(v2)")
    )
    assert guards_of(lambda x: (x * 3).sum().item())[0].text != one.text


def test_a_constant_is_told_by_its_values():
    def text(table):
        return guards_of(lambda x: (x @ table).sum().item())[0].text

    assert text(TABLE) == text(TABLE.clone()) != text(TABLE + 1)


def test_what_a_guard_is_given_is_not_written_to():
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.ops.aten.add_.Tensor, (x, 1)))
    given = torch.zeros(2)
    assert reader(graph)([given]).tolist() == [1.0, 1.0] and given.tolist() == [0.0, 0.0]


def test_a_guard_prints_value_graph_and_line():
    assert str(guards_of(lambda x: x.sum().item())[0]).startswith("12.0 == v1 = aten.sum.default(batch ''); ")
    assert f"  # {__file__}:" in str(guards_of(lambda x: x.sum().item())[0])


@pytest.mark.parametrize(("tensor", "real"), [(torch.ones(1), True), (torch.ones(1, device="meta"), False)])
def test_tensors_with_values_are_real(tensor, real):
    assert is_real(tensor) is real
