import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import GraphError
from funpipe.graphs import Ref, check, interpret, parse, sorted_stably
from funpipe.graphs.communication import channels
from tests.graphs.made import graph_of, summed

CHAIN = graph_of(lambda x: (x.sin().exp() + x.cos(), x.neg()), torch.ones(3), inputs=["x"])


@given(st.permutations(range(len(CHAIN.nodes))))
@settings(max_examples=30, deadline=None)
def test_any_order_is_mended(order):
    mended = sorted_stably(CHAIN, [CHAIN.nodes[i] for i in order])
    check(mended)
    x = torch.arange(3.0)
    assert all(map(torch.equal, interpret(mended, {"x": x}).values(), interpret(CHAIN, {"x": x}).values()))


def test_a_valid_order_is_kept():
    assert sorted_stably(CHAIN).as_text() == CHAIN.as_text()


def test_starts_on_one_axis_keep_their_order_and_other_axes_do_not_matter():
    graph = graph_of(lambda x: (summed(x.sin()), summed(x.cos(), "pp"), summed(x.neg())), torch.ones(2))
    late = sorted_stably(graph, key=lambda node, at: -at)
    assert channels(late) == channels(graph)
    check(late)


def test_reads_stay_before_the_write_that_ends_their_value():
    text = """x: float32[2]
old: float32[2] = aten.sin.default(%x)
w: float32[2] = aten.add_.Tensor(%x, 1)
return o = %old"""
    late = sorted_stably(parse(text), key=lambda node, at: -at)
    assert [node.name for node in late.nodes] == ["old", "w"]


def test_views_count_as_their_memory():
    text = """x: float32[4]
v: float32[2] = aten.slice.Tensor(%x, 0, 0, 2)
r: float32[2] = aten.sin.default(%v)
w: float32[4] = aten.add_.Tensor(%x, 1)
return o = %r"""
    late = sorted_stably(parse(text), key=lambda node, at: -at)
    assert [node.name for node in late.nodes].index("r") < [node.name for node in late.nodes].index("w")


def test_what_an_operator_overwrote_is_read_before_it_is_overwritten_again():
    text = """x: float32[2]
once: float32[2] = aten.add_.Tensor(%x, 1)
r: float32[2] = aten.sin.default(%once)
twice: float32[2] = aten.add_.Tensor(%x, 5)
return o = %r"""
    late = sorted_stably(parse(text), key=lambda node, at: -at)
    assert [node.name for node in late.nodes] == ["once", "r", "twice"]


def test_messages_and_what_other_stages_take_part_in_keep_their_order():
    text = """x: float32[2]
post = funpipe_collectives.post_recv.default(0)
p: float32[2] = funpipe_collectives.all_reduce.default(%x, 'sum', 'pp')
w: float32[2] = funpipe_collectives.wait_tensor.default(%p)
send = funpipe_collectives.send.default(%x, 1)
return o = %w"""
    late = sorted_stably(parse(text), key=lambda node, at: -at)
    assert [node.name for node in late.nodes] == ["post", "p", "w", "send"]


def test_a_circle_is_an_error():
    sin, exp, *rest = CHAIN.nodes
    circle = (sin.renamed({"x": "exp"}), exp, *rest)
    with pytest.raises(GraphError, match=r"sin \(aten.sin.default\) depends on itself"):
        sorted_stably(CHAIN.replace(nodes=circle, outputs={"o": Ref("exp")}))
