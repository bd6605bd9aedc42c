import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from funpipe.stages import corners
from funpipe.stages.corners import Corners, counted

#   segment       0   1   2
#   boundary    0   1   2   3


def amounts(*items, size=3):
    return Corners.of(size, items).dense()


def test_a_part_has_once_what_any_of_its_segments_has():
    assert amounts(counted([0, 2], 5))[:3, 1:].tolist() == [[5, 5, 5], [0, 0, 5], [0, 0, 5]]


def test_what_is_made_before_counts_for_parts_that_begin_after():
    assert amounts(counted([1, 2], 5, after=0))[:3, 1:].tolist() == [[0, 0, 0], [0, 5, 5], [0, 0, 5]]


def test_what_is_made_behind_counts_for_parts_that_end_before():
    assert amounts(counted([0, 1], 5, before=2))[:3, 1:].tolist() == [[5, 5, 0], [0, 5, 0], [0, 0, 0]]


@st.composite
def lines(draw):
    size = draw(st.integers(1, 40))
    segments = st.integers(0, size - 1)
    return Corners.of(size, [counted(sorted(draw(st.sets(segments))), draw(st.integers(0, 9))) for _ in range(5)])


@given(lines(), st.integers(1, 9), st.data())
def test_blocks_are_the_matrix(line, rows, data):
    whole = line.dense()
    with_rows = {first: data.draw(st.integers(first, line.size)) for first in reversed(range(0, line.size + 1, rows))}
    old, corners.ROWS = corners.ROWS, rows
    try:
        for (first, end), block in zip(with_rows.items(), line.blocks(with_rows), strict=True):
            wanted = np.triu(whole)[first : first + rows, first : end + 1]
            assert (np.triu(block) == wanted).all()
    finally:
        corners.ROWS = old


@given(lines(), st.data())
def test_some_boundaries_have_the_amounts_of_all(line, data):
    inner = data.draw(st.sets(st.integers(0, line.size)))
    some = np.array(sorted({0, line.size, *inner}))
    assert (np.triu(line.among(some).dense()) == np.triu(line.dense()[np.ix_(some, some)])).all()
