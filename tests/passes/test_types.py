import pytest

from funpipe.graphs import parse
from funpipe.passes.types import wrong_type

EMPTY = parse("x: float32[4,3]")


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ("n: float32[4,3] = aten.neg.default(%x)", None),
        ("n: float32[3,4] = aten.neg.default(%x)", "float32[4,3]"),
        ("n: float64[4,3] = aten.neg.default(%x)", "float32[4,3]"),
        ("n: float32[3,4] = aten.t.default(%x)", None),
        ("n: (float32[2,3], float32[2,3]) = aten.split.Tensor(%x, 2)", None),
        ("n: float32[8,3] = funpipe_collectives.all_gather.default(%x, 'dp', 2)", None),
        ("n: float32[4,3] = funpipe_collectives.all_gather.default(%x, 'dp', 2)", "float32[8,3]"),
        ("n: float32[] = aten._local_scalar_dense.default(%x)", None),
        ("n = aten.neg.default(%x)", None),
    ],
)
def test_a_new_node_is_judged_by_what_its_operator_gives(node, found):
    wrong = wrong_type(EMPTY, parse(f"x: float32[4,3]\n{node}"))
    assert (None if wrong is None else (wrong[0].name, str(wrong[1]))) == (None if found is None else ("n", found))


def test_what_was_there_before_is_known():
    graph = parse("x: float32[4,3]\nn: float32[3] = aten.neg.default(%x)")
    assert wrong_type(graph, graph) is None


def test_nodes_behind_a_wrong_one_are_judged_by_its_type():
    graph = parse("x: float32[2]\na: float32[3] = aten.neg.default(%x)\nb: float32[3] = aten.neg.default(%a)")
    assert wrong_type(EMPTY, graph)[0].name == "a"
