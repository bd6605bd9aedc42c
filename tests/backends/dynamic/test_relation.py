"""Integers that follow a size."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from funpipe.backends.dynamic.relation import Relation, relation

SIZES = st.integers(2, 300)


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (5, 5, Relation(offset=5)),
        (-1, -1, Relation(offset=-1)),
        (64, 96, Relation(slope=4)),
        (256, 576, Relation(square=1)),
        (15, 23, Relation(slope=1, offset=-1)),
        (4, 6, Relation(divisor=4)),
        (17, 40, None),
    ],
)
def test_the_simplest_relation_is_found(one, other, found):
    assert relation(one, other, 16, 24) == found


@given(SIZES, SIZES, SIZES, st.integers(-9, 9), st.integers(-9, 9))
def test_what_follows_a_size_in_a_line_is_found_or_something_that_agrees_at_both(size, other, third, slope, offset):
    assume(size != other)
    found = relation(slope * size + offset, slope * other + offset, size, other)
    assert found is not None and found.at(other) == slope * other + offset
    if not (found.square or found.divisor):
        assert found.at(third) == slope * third + offset


def test_only_a_relation_that_says_the_same_everywhere_is_fixed():
    assert Relation(offset=3).is_fixed and Relation().at(7) == 0
    assert not any(r.is_fixed for r in (Relation(slope=1), Relation(square=2), Relation(divisor=2)))
