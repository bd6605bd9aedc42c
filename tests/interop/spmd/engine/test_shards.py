import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe import MeshShape
from funpipe.functional.communication import communicating
from funpipe.interop.spmd.engine.own_rows import without_own_gathers
from funpipe.interop.spmd.engine.shards import Shard
from funpipe.runtime.communicator import TransportCommunicator
from funpipe.tracing import imperative_graph


@given(rows=st.integers(1, 12), size=st.integers(1, 5))
def test_rows_are_cut_as_chunk_cuts_them(rows, size):
    whole = torch.arange(rows)
    pieces = [Shard(rows, rank, size).own(whole) for rank in range(size)]
    expected = (
        [*whole.chunk(size), *[whole[:0]] * size][:size] if rows % size == 0 else list(whole.split(-(-rows // size)))
    )
    assert [p.tolist() for p in pieces] == [p.tolist() for p in [*expected, *[whole[:0]] * size][:size]]
    assert torch.cat(pieces).tolist() == whole.tolist()


def test_one_rank_has_all_rows():
    shard = Shard(3, 0, 1)
    with communicating(TransportCommunicator()):
        assert shard.whole(shard.own(torch.arange(3))).tolist() == [0, 1, 2]
        assert shard.mean(torch.arange(3.0)).tolist() == [0, 1, 2]


def targets(module):
    return [
        node.target.overloadpacket.__name__ for node in module.graph.nodes if hasattr(node.target, "overloadpacket")
    ]


@pytest.mark.parametrize(("rows", "rank"), [(4, 0), (4, 1), (5, 1), (1, 1)])
def test_a_gather_of_which_a_rank_keeps_its_own_rows_goes(rows, rank):
    shard = Shard(rows, rank, 2)
    module = imperative_graph(lambda x: [shard.own(shard.mean(x))], [torch.ones(rows, 3)])
    assert "all_gather" in targets(module)
    found = targets(without_own_gathers(module, rank))
    assert "all_gather" not in found
    assert found.count("reduce_scatter") == 1


def test_a_gather_that_somebody_reads_stays():
    shard = Shard(4, 0, 2)

    def step(x):
        mean = shard.mean(x)
        return [shard.own(mean), mean.norm()]

    module = without_own_gathers(imperative_graph(step, [torch.ones(4, 3)]), 0)
    assert targets(module).count("all_gather") == 1
    assert MeshShape(1, 2).dp == shard.size
