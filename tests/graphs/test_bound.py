from funpipe.graphs import parse
from funpipe.graphs.bound import bound, is_pipelined, start_of

BOTH = """x: float32[4]
p_dp: float32[4] = funpipe_collectives.all_reduce.default(%x, 'sum', 'dp')
w_dp: float32[4] = funpipe_collectives.wait_tensor.default(%p_dp)
p_pp: float32[4] = funpipe_collectives.all_reduce.default(%x, 'sum', 'pp')
w_pp: float32[4] = funpipe_collectives.wait_tensor.default(%p_pp)"""
EARLIER = """
carry.p: float32[4]
earlier: float32[4] = funpipe_collectives.wait_tensor.default(%carry.p)"""
POST = "\npost = funpipe_collectives.post_recv.default(0)"
COALESCED = """
list: (float32[4]) = funpipe_collectives.all_reduce_coalesced.default([%x], 'sum', 'dp')
part: float32[4] = getitem(%list, 0)
of_part: float32[4] = funpipe_collectives.wait_tensor.default(%part)"""


def test_the_start_of_a_wait():
    graph = parse(BOTH + EARLIER + COALESCED)
    assert start_of(graph, graph.node("w_pp")).name == "p_pp"
    assert start_of(graph, graph.node("of_part")).name == "list"
    assert start_of(graph, graph.node("earlier")) is None


def test_nothing_is_bound_where_all_ranks_run_the_same():
    graph = parse(BOTH)
    assert not is_pipelined(graph)
    assert bound(graph) == frozenset()


def test_in_a_pipeline_messages_and_other_axes_are_bound():
    assert bound(parse(BOTH + EARLIER + POST)) == {"p_pp", "w_pp", "earlier", "post"}


def test_a_rank_of_a_pipeline_may_have_no_messages():
    graph = parse(BOTH).replace(pipelined=True)
    assert is_pipelined(graph)
    assert bound(graph) == {"p_pp", "w_pp"}
