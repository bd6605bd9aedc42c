"""What `plan` is told to choose from."""

import pytest

from funpipe._errors import FunpipeTypeError, PlanError
from funpipe.planning.choices import require_choices
from funpipe.schedules import GPipe


def test_lists_tuples_and_what_is_left_out():
    require_choices(4, schedules=["1f1b", GPipe()], remat=("none",), shard=(0, 3), rows=range(1, 4), pp=None)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"schedules": "1f1b"}, r"schedules is '1f1b'; pass a list to choose from, such as \['1f1b'\]"),
        ({"remat": "none"}, "remat is 'none'; pass a list"),
        ({"rows": 4}, r"rows is 4; pass a list to choose from, such as \[4\]"),
        ({"shard": 1}, "shard is 1; pass a list"),
    ],
)
def test_one_value_in_place_of_a_list(changes, text):
    with pytest.raises(FunpipeTypeError, match=text):
        require_choices(4, **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rows": [0]}, "rows has 0; pass ints of at least 1"),
        ({"pp": [2.0]}, "pp has 2.0; pass ints of at least 1"),
        ({"pp": [3, 5]}, r"none of pp=\(3, 5\) divides the 4 devices; use some of 1, 2, 4"),
        ({"shard": [0, 4]}, "shard has 4; the stages of ZeRO are 0, 1, 2 and 3"),
        ({"rows": []}, "rows is empty; pass at least one"),
    ],
)
def test_values_that_cannot_be(changes, text):
    with pytest.raises(PlanError, match=text):
        require_choices(4, **changes)
