import pytest

from funpipe.schedules import check
from funpipe.schedules.v_block import Pace, v_block, v_table

EVEN = Pace(up=1, f_tip=1, i_top=1, i_tip=1)


def drawn(block):
    """Stages in their order, F and I by slot."""
    found = [(int(slot), f"{s}{kind}") for kind, slots in block.items() for s, slot in enumerate(slots)]
    return " ".join(f"{slot}:{task}" for slot, task in sorted(found))


def test_a_microbatch_goes_down_and_up_twice():
    assert drawn(v_block(2, EVEN)) == "0:0F 1:1F 2:2F 3:3F 4:3I 5:2I 6:1I 7:0I"


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (Pace(up=2, f_tip=1, i_top=1, i_tip=1), "0:0F 1:1F 2:2F 4:3F 5:3I 6:2I 7:1I 9:0I"),
        (Pace(up=1, f_tip=3, i_top=1, i_tip=1), "0:0F 1:1F 4:2F 5:3F 6:3I 7:2I 8:1I 9:0I"),
        (Pace(up=1, f_tip=1, i_top=4, i_tip=1), "0:0F 1:1F 2:2F 3:3F 7:3I 8:2I 9:1I 10:0I"),
        (Pace(up=1, f_tip=1, i_top=1, i_tip=2), "0:0F 1:1F 2:2F 3:3F 4:3I 5:2I 7:1I 8:0I"),
    ],
)
def test_each_pace_is_where_it_says(pace, expected):
    assert drawn(v_block(2, pace)) == expected


@pytest.mark.parametrize("m", [1, 2, 7])
def test_repeated_it_is_a_table(m):
    table = v_table(2, m, EVEN)
    check(table)
    assert (table.placement, table.num_microbatches) == ((0, 1, 1, 0), m)
