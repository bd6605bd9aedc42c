import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from funpipe.stages.lookup import Lookup


@given(st.lists(st.lists(st.integers(0, 2**50), min_size=1), max_size=4))
def test_it_is_the_function(arrays):
    square = Lookup(lambda number: number % 1009)
    for numbers in arrays:
        assert square(np.array(numbers, np.int64)).tolist() == [number % 1009 for number in numbers]


def test_a_number_is_computed_once():
    asked = []
    lookup = Lookup(lambda number: asked.append(number) or number)
    for _ in range(3):
        lookup(np.array([[7, 8], [8, 7]]))
    assert asked == [7, 8]


def test_numbers_that_share_a_place_are_told_apart(monkeypatch):
    monkeypatch.setattr("funpipe.stages.lookup.BITS", 1)
    numbers = np.arange(50).reshape(5, 10)
    lookup = Lookup(lambda number: 3 * number)
    assert (lookup(numbers) == 3 * numbers).all() and (lookup(numbers[::-1]) == 3 * numbers[::-1]).all()
