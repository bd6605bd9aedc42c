import torch

from funpipe.graphs import eliminate_dead, parse
from tests.graphs.made import graph_of, summed


def names(graph):
    return [node.name for node in graph.nodes]


def test_dead_nodes_go_and_dead_collectives_with_their_wait():
    graph = graph_of(lambda x: (x.sin(), summed(x), x.cos())[:1], torch.ones(2))
    assert names(eliminate_dead(graph)) == ["sin"]


def test_messages_and_writes_stay():
    graph = parse("x: float32[2]\ns = funpipe_collectives.send.default(%x, 0)\nw: float32[2] = aten.add_.Tensor(%x, 1)")
    assert eliminate_dead(graph) is graph


def test_what_another_stage_takes_part_in_stays():
    graph = graph_of(lambda x: (x.sin(), summed(x), summed(x.cos(), "pp"))[:1], torch.ones(2))
    assert names(eliminate_dead(graph)) == ["sin"]
    pipelined = eliminate_dead(graph.replace(pipelined=True))
    assert names(pipelined) == ["sin", "cos", "all_reduce_1", "wait_tensor_1"]
    assert pipelined.outputs == graph.outputs
