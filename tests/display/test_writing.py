from hypothesis import given

from funpipe.display import text
from funpipe.schedules import OneFOneB, simulate
from tests.display.pictures import PAIR, SIMULATION, TABLE
from tests.schedules.tables import tables

ONE_F_ONE_B = """\
rank 0 | F0-F1-...B0=F2-B1=...B2=
rank 1 | ...F0-B0=F1-B1=F2-B2=...
time   | 0              5
F- forward, B= backward, . idle; a character is 0.333 slot"""

# A message is seen where the rank that sends it is idle.
WITH_MESSAGES = """\
rank 0 | F0--F1--::..........B0======F2--B1======........B2======
rank 1 | ......F0--B0======F1--B1======::..F2--B2======::........
time   | 0       2       4       6       8       10      12      14
F- forward, B= backward, : communication, . idle; a character is 0.25"""

TOGETHER = """\
rank 0 | 0F0-........3F0-0F1&3B0#....3F1-3B1=0B0=0B1=
rank 1 | ....1F0-2F0-2B0=1B0=1F1-2F1-2B1=1B1=........
time   | 0                   5                   10
F- forward, B= backward, # two at once, . idle; a character is 0.25 slot"""


def test_a_table():
    assert text(TABLE) == ONE_F_ONE_B


def test_a_simulation_with_messages():
    assert text(SIMULATION, width=56) == WITH_MESSAGES


def test_two_at_once():
    assert text(PAIR) == TOGETHER


def test_boxes_too_narrow_for_labels_keep_letter_and_mark():
    drawn = text(simulate(TABLE, F=1.0, B=2.0), width=12).splitlines()
    assert drawn[:2] == ["rank 0 | FF..B=FB=.B=", "rank 1 | .FB=FB=FB=.."]


@given(tables())
def test_every_row_is_as_long_as_the_time(table):
    lines = text(table, width=50).splitlines()
    assert {len(line) for line in lines[: table.num_ranks]} == {len("rank 0 | ") + 50}


def test_a_wide_picture_stops_growing():
    assert max(map(len, text(OneFOneB().table(4, 200)).splitlines())) < 260


def test_boxes_that_no_character_stands_for_are_counted():
    assert "narrower" not in text(TABLE, width=8)
    assert text(TABLE, width=4).endswith("\n6 boxes are narrower than a character: width= or time= shows them")
