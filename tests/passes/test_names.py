from funpipe.graphs import parse
from funpipe.passes.names import Names

GRAPH = parse("x: float32[2]\nn: float32[2] = aten.neg.default(%x)")


def test_no_name_is_given_twice():
    names = Names(GRAPH)
    assert [names.fresh(name) for name in ("n", "x", "n", "new", "new")] == ["n_1", "x_1", "n_2", "new", "new_1"]


def test_the_name_of_a_node_that_goes_is_free():
    names = Names(GRAPH)
    names.release("n")
    assert (names.fresh("n"), names.fresh("n")) == ("n", "n_1")
