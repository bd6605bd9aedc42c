import pytest

from funpipe.interop.pipelining.microbatch.pairs import outline, pair


def test_a_spec_holds_for_all_below_it():
    leaves, structure = pair({"x": [1, {"y": 2}], "z": None}, {"x": "cut", "z": "whole"}, "kwargs")
    assert [(leaf.name, leaf.value, leaf.spec) for leaf in leaves] == [
        ("kwargs['x'][0]", 1, "cut"),
        ("kwargs['x'][1]['y']", 2, "cut"),
        ("kwargs['z']", None, "whole"),
    ]
    assert structure.num_leaves == 3


@pytest.mark.parametrize(
    ("tree", "spec"),
    [((1, 2), ("a",)), ({"x": 1}, {"y": "a"}), ((1,), ["a"]), (1, ("a",)), (((1, 2),), (("a", "b", "c"),))],
)
def test_another_structure_is_no_beginning(tree, spec):
    assert pair(tree, spec, "args") is None


def test_an_outline_is_the_structure_without_the_leaves():
    assert outline(((1, {"b": None, "a": [2]}), 3)) == "((*, {'a': [*], 'b': *}), *)"
