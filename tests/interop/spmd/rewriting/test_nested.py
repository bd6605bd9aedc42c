"""Nodes inside of arguments."""

from collections import namedtuple

from torch import fx

from funpipe.interop.spmd.rewriting.nested import leaves, map_nested, nodes_in, refilled

Pair = namedtuple("Pair", "a b")


def test_every_node_is_replaced_and_the_rest_stays():
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    value = ([x, 1], {"k": (y, Pair(x, "s"))}, slice(None))
    assert map_nested(lambda node: node.name, value) == (["x", 1], {"k": ("y", Pair("x", "s"))}, slice(None))
    assert list(nodes_in(value)) == [x, y, x]


def test_leaves_are_put_back_where_they_were():
    value = [1, (2, {"k": None}), []]
    assert list(leaves(value)) == [1, 2, None]
    assert refilled(value, iter("abc")) == ["a", ("b", {"k": "c"}), []]
