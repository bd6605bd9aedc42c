from hypothesis import given

from funpipe.display import picture
from funpipe.schedules import simulate
from tests.display.pictures import PAIR, SIMULATION, TABLE
from tests.schedules.tables import tables


def named(shown, rank):
    return [("&".join(b.labels), b.start, b.end) for b in shown.boxes if b.row == rank and not b.aside]


def test_a_slot_of_a_table_is_a_unit():
    assert named(picture(TABLE), 0) == [
        *(("F0", 0, 1), ("F1", 1, 2), ("B0", 3, 4), ("F2", 4, 5), ("B1", 5, 6), ("B2", 7, 8)),
    ]
    assert picture(TABLE).unit == "slot"


def test_two_at_once_are_one_box_of_two_slots():
    box = next(box for box in picture(PAIR).boxes if len(box.kinds) == 2)
    assert (box.kinds, box.labels, box.title) == (("F", "B"), ("0F1", "3B0"), "0F1&3B0: 4 to 6")


def test_labels_name_the_stage_where_the_row_does_not():
    assert {box.labels[0] for box in picture(TABLE).boxes if box.row == 1} == {"F0", "F1", "F2", "B0", "B1", "B2"}
    assert "3F0" in {box.labels[0] for box in picture(PAIR).boxes}


def test_messages_are_beside_the_tasks():
    sends = [box for box in picture(SIMULATION).boxes if box.aside]
    assert [(box.start, box.end) for box in sends if box.row == 0] == [(1.0, 1.5), (2.0, 2.5), (8.0, 8.5)]
    assert {box.kinds for box in sends} == {("communication",)}
    assert sends[0].title == "result of 0F0 on its way: 1 to 1.5"


@given(tables())
def test_every_task_has_its_box_at_its_time(table):
    simulation = simulate(table)
    shown = picture(simulation)
    for rank, row in enumerate(table.rows):
        expected = {
            f"{task}: {simulation.start[rank, slot]:g} to {simulation.end[rank, slot]:g}"
            for slot, task in enumerate(row)
            if task is not None
        }
        assert {box.title for box in shown.boxes if box.row == rank and not box.aside} == expected


def test_the_memory_of_each_rank():
    curves = picture(SIMULATION).curves
    assert [float(curve.amounts.max()) for curve in curves] == list(SIMULATION.memory.peak)
