"""Parts of a shared memory never overlap, and one of the largest size finds room once most has been reported."""

from collections import deque

import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe._typing import TensorType
from funpipe.runtime.transports.memory import LARGEST, MOST, PAGE, SIZE, Parts, Read, Views, pages

SIZES = st.one_of(st.integers(0, 3 * PAGE), st.integers(0, LARGEST), st.just(LARGEST))


@given(st.lists(st.one_of(SIZES, st.none()), max_size=300))
def test_parts_in_use_lie_apart(orders):
    """A number takes a part; None gives the oldest one back."""
    parts, used = Parts(), deque()
    for nbytes in orders:
        if nbytes is None:
            if used:
                used.popleft()
                parts.give_back(1)
            continue
        start = parts.take(nbytes)
        if start is not None:
            used.append((start, start + pages(nbytes) * PAGE))
    ordered = sorted(used)
    assert all(end <= start for (_, end), (start, _) in zip(ordered, ordered[1:], strict=False))
    assert all(0 <= start and end <= SIZE and start % PAGE == 0 for start, end in ordered)
    assert len(ordered) <= MOST


@given(st.lists(SIZES, min_size=1, max_size=40), SIZES)
def test_with_less_than_a_quarter_unreported_there_is_room(sizes, wanted):
    """What keeps a sender from waiting for a report that never comes."""
    parts, used = Parts(), deque()
    for nbytes in sizes:
        while parts.take(nbytes) is None:
            used.popleft()
            parts.give_back(1)
        used.append(pages(nbytes))
    while sum(used) >= pages(LARGEST) or len(used) >= MOST // 4:
        used.popleft()
        parts.give_back(1)
    assert parts.take(wanted) is not None


def test_it_begins_at_the_front_when_nothing_is_in_use():
    parts = Parts()
    for _ in range(3):
        assert parts.take(100) == 0
        parts.give_back(1)


def test_what_is_read_is_due_when_it_is_many_or_much():
    many, much = Read(), Read()
    for _ in range(MOST // 4):
        assert not many.due
        many.add(1)
    much.add(LARGEST)
    assert many.due and much.due
    assert (many.forget(), many.forget(), much.forget()) == (MOST // 4, 0, 1)
    assert not many.due and not much.due


def test_a_part_is_seen_as_any_type():
    views, kind = Views(torch.zeros(4 * PAGE, dtype=torch.uint8)), TensorType((2, 3), (1, 2), torch.float64)
    views.of(PAGE, kind).copy_(torch.arange(6.0).reshape(2, 3))
    assert views.of_bytes(PAGE, 48).view(torch.float64).tolist() == [0, 3, 1, 4, 2, 5]
    assert views.of(PAGE, kind) is views.of(PAGE, kind)
    assert views.of(PAGE, TensorType((6,), (1,), torch.float64)).tolist() == [0, 3, 1, 4, 2, 5]
