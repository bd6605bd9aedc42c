import pytest
import torch

from funpipe import MeshShape
from funpipe._errors import GraphError
from funpipe.functional.communication import OPERATORS as ops
from funpipe.graphs import Ranks, parse, simulate
from tests.graphs.made import graph_of, summed


def of_ranks(graph, tensors, mesh):
    return [out["out.0"].tolist() for out in simulate(graph, [{"x": t} for t in tensors], mesh)]


def rows(count):
    return [torch.tensor([float(r), 10.0 * r]) for r in range(count)]


def test_groups_of_a_mesh():
    both = graph_of(
        lambda x: (torch.stack([summed(x, a)[0] for a in ("dp", "pp", "world")]),), torch.ones(2), inputs=["x"]
    )
    assert of_ranks(both, rows(4), MeshShape(2, 2)) == [[2, 1, 6], [4, 1, 6], [2, 5, 6], [4, 5, 6]]


def test_gather_scatter_and_largest():
    gather = graph_of(lambda x: (ops.wait_tensor(ops.all_gather(x, "dp", 2)),), torch.ones(2), inputs=["x"])
    scatter = graph_of(lambda x: (ops.wait_tensor(ops.reduce_scatter(x, "max", "dp", 2)),), torch.ones(2), inputs=["x"])
    assert of_ranks(gather, rows(2), MeshShape(1, 2)) == [[0, 0, 1, 10], [0, 0, 1, 10]]
    assert of_ranks(scatter, rows(2), MeshShape(1, 2)) == [[1], [10]]


def test_the_parts_of_a_coalesced_start_have_waits_of_their_own():
    def both(x):
        parts = ops.all_reduce_coalesced([x, 2 * x], "sum", "dp")
        return (ops.wait_tensor(parts[1]) - ops.wait_tensor(parts[0]),)

    assert of_ranks(graph_of(both, torch.ones(2), inputs=["x"]), rows(2), MeshShape(1, 2)) == [[1, 10], [1, 10]]


SENDER = """x: float32[2]
s = funpipe_collectives.send.default(%x, 0)
w = funpipe_collectives.wait_send.default(%x, 0)
return out.0 = %x"""
RECEIVER = """x: float32[2]
p = funpipe_collectives.post_recv.default(0)
r: float32[2] = funpipe_collectives.wait_recv.default(0, [2], [1], torch.float32, device('cpu'))
return out.0 = %r"""


def test_messages_go_from_rank_to_rank():
    assert of_ranks([parse(SENDER), parse(RECEIVER)], rows(2), MeshShape(2, 1)) == [[0, 0], [0, 0]]


def test_a_deadlock_says_where_each_rank_stands():
    with pytest.raises(GraphError, match=r"rank 0 at r \(funpipe_collectives.wait_recv.default\), rank 1 at r"):
        of_ranks(parse(RECEIVER), rows(2), MeshShape(2, 1))


def combined(how):
    def function(x):
        return (ops.wait_tensor(ops.all_reduce(x, how, "dp")),)

    return graph_of(function, torch.ones(2), inputs=["x"])


def test_different_collectives_are_an_error():
    with pytest.raises(GraphError, match="collective 0 on 'dp' differs between ranks"):
        of_ranks([combined("sum"), combined("max")], rows(2), MeshShape(1, 2))


def test_what_one_step_started_the_next_may_wait_for():
    ranks = Ranks(MeshShape(1, 2))
    start = graph_of(lambda x: (ops.all_reduce(x, "sum", "dp"),), torch.ones(2), inputs=["x"])
    end = graph_of(lambda x: (ops.wait_tensor(x),), torch.ones(2), inputs=["x"])
    begun = ranks.run(start, [{"x": t} for t in rows(2)])
    done = ranks.run(end, [{"x": out["out.0"]} for out in begun])
    assert [out["out.0"].tolist() for out in done] == [[1, 10], [1, 10]]


def test_waiting_for_nothing_is_an_error():
    end = graph_of(lambda x: (ops.wait_tensor(x),), torch.ones(2), inputs=["x"])
    with pytest.raises(GraphError, match="that no collective started"):
        of_ranks(end, rows(1), MeshShape(1, 1))


def test_the_number_of_inputs_is_that_of_ranks():
    with pytest.raises(GraphError, match="has 2 ranks"):
        of_ranks(parse(SENDER), rows(1), MeshShape(2, 1))
