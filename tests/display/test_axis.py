import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe.display.axis import number_text, ticks


@pytest.mark.parametrize(
    ("begin", "end", "most", "expected"),
    [
        (0, 8, 8, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (0, 8, 5, [0, 2, 4, 6, 8]),
        (3, 11, 2, [5, 10]),
        (0, 0.003, 3, [0, 0.001, 0.002, 0.003]),
        (0, 40000, 4, [0, 10000, 20000, 30000, 40000]),
    ],
)
def test_round_numbers(begin, end, most, expected):
    assert ticks(begin, end, most) == expected


@given(st.floats(0, 1e9), st.floats(1e-6, 1e9), st.integers(1, 30))
def test_inside_and_not_too_many(begin, length, most):
    found = ticks(begin, begin + length, most)
    assert len(found) <= most + 1
    assert found == sorted(found)


def test_neighbours_are_told_apart_far_from_zero():
    found = [number_text(at) for at in ticks(1_234_567.0, 1_234_569.0, 4)]
    assert found == ["1234567", "1234567.5", "1234568", "1234568.5", "1234569"]
