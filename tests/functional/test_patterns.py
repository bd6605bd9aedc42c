"""Leaves chosen by name, subtree or pattern."""

import pytest

from funpipe._errors import TreeError
from funpipe.functional.patterns import matching

NAMES = ["embed.weight", "layers.0.attn.weight", "layers.0.attn.bias", "layers.10.attn.weight", "head"]


def test_a_name_is_itself_and_a_subtree_all_leaves_in_it():
    assert matching(NAMES, "head") == ["head"]
    assert matching(NAMES, "layers.0") == NAMES[1:3]


def test_a_subtree_is_no_prefix_of_a_longer_number():
    assert matching(NAMES, "layers.1*") == ["layers.10.attn.weight"]
    with pytest.raises(TreeError, match=r"'layers.1' matches no leaf.*the nearest are 'layers"):
        matching(NAMES, "layers.1")


def test_several_patterns_keep_the_order_of_the_leaves():
    assert matching(NAMES, ("head", "*.bias", "embed")) == ["embed.weight", "layers.0.attn.bias", "head"]


def test_brackets_and_case_are_as_in_the_shell():
    assert matching(NAMES, "layers.[0-9].attn.*") == NAMES[1:3]
    with pytest.raises(TreeError, match="'Head' matches no leaf"):
        matching(NAMES, "Head")


def test_no_pattern_matches_nothing():
    assert matching(NAMES, ()) == []


def test_an_empty_tree_says_so():
    with pytest.raises(TreeError, match="there are no leaves"):
        matching([], "head")
