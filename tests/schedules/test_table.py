import pickle

import numpy as np
import pytest
from hypothesis import given

from funpipe._errors import ScheduleError
from funpipe.schedules import DualPipeV, GPipe, OneFOneB, Overlap, Table, Task
from tests.schedules.plain import paired_tables
from tests.schedules.tables import tables

F0, B0 = Task("F", 0, 0), Task("B", 0, 0)


def test_sizes():
    table = OneFOneB().table(4, 6)
    assert (table.num_ranks, table.num_stages, table.num_microbatches, table.num_slots) == (4, 4, 6, 18)
    assert table.cells.shape == (4, 18)


def test_rows_are_lazy_sequences_of_tasks_and_none():
    row = GPipe().table(2, 1).rows[1]
    assert row[0] is None
    assert row[1] == Task("F", 1, 0)
    assert row[-2] == Task("B", 1, 0)
    assert row[1:3] == [Task("F", 1, 0), Task("B", 1, 0)]
    assert len(row) == 4
    assert repr(row) == "Row(. 1F0 1B0 .)"


def test_row_ends():
    with pytest.raises(IndexError):
        GPipe().table(2, 1).rows[0][4]


@given(tables())
def test_from_rows_gives_the_rows_back(table):
    again = Table.from_rows(table.rows, placement=table.placement, num_microbatches=table.num_microbatches)
    assert again == table
    assert hash(again) == hash(table)


def test_short_rows_are_idle_at_the_end():
    table = Table.from_rows([[F0, B0], [None]], placement=(0,), num_microbatches=1)
    assert table.rows[1] == [None, None]


def test_order_leaves_out_the_idle_cells():
    assert GPipe().table(2, 1).order(1) == (Task("F", 1, 0), Task("B", 1, 0))


def test_equality_is_by_content():
    table = GPipe().table(2, 2)
    assert table == GPipe().table(2, 2)
    assert table != OneFOneB().table(2, 2)
    assert table != Table(table.cells, (1, 0), 2)
    assert Table(table.cells, (0, 1, 0, 1), 2) != Table(table.cells, (0, 1, 0, 1), 3)
    assert table != "table"


def test_tables_are_keys_and_can_be_sent():
    table = GPipe().table(2, 2)
    assert {table: "gpipe"}[pickle.loads(pickle.dumps(table))] == "gpipe"


def test_cells_are_a_copy_that_cannot_be_written():
    mine = np.array([[0, 1]])
    table = Table(mine, (0,), 1)
    mine[0, 0] = 3
    assert table.order(0) == (F0, B0)
    with pytest.raises(ValueError, match="read-only"):
        table.cells[0, 0] = 1


def test_from_slots_places_each_task():
    table = Table.from_slots({"F": np.array([[0], [1]]), "B": np.array([[3], [2]])}, placement=(1, 0))
    assert table.rows[0] == [None, Task("F", 1, 0), Task("B", 1, 0), None]
    assert table.rows[1] == [F0, None, None, B0]


@pytest.mark.parametrize("slots", [{"F": [[0, 0]]}, {"F": [[0, 1]], "B": [[1, 2]]}])
def test_from_slots_refuses_two_tasks_in_a_slot(slots):
    with pytest.raises(ScheduleError, match=r"rank 0 has two tasks in slot [01]; give each task"):
        Table.from_slots(slots, placement=(0,))


@pytest.mark.parametrize("slots", [{}, {"F": [0]}, {"F": [[0]], "B": [[1, 2]]}, {"F": [[0], [1]]}])
def test_from_slots_refuses_other_shapes(slots):
    with pytest.raises(ScheduleError, match="give every kind one integer array of shape"):
        Table.from_slots(slots, placement=(0,))


@pytest.mark.parametrize("slots", [{"F": [[-1]]}, {"F": [[0.5]]}])
def test_from_slots_refuses_other_numbers(slots):
    with pytest.raises(ScheduleError, match="number the columns of the grid from 0"):
        Table.from_slots(slots, placement=(0,))


@pytest.mark.parametrize(
    ("slots", "more", "text"),
    [
        ({"X": [[0]]}, {}, "slots are given for kind 'X'; use F, B, I, W"),
        ({"F": [[0]]}, {"where": {"B": [[True]]}}, r"where or joined speaks of kind 'B'; .* there are \['F'\]"),
        ({"B": [[0]]}, {"joined": [[True]]}, r"where or joined speaks of kind 'F'; .* there are \['B'\]"),
    ],
)
def test_from_slots_refuses_other_kinds(slots, more, text):
    with pytest.raises(ScheduleError, match=text):
        Table.from_slots(slots, placement=(0,), **more)


def test_numbers_of_numpy_are_taken_as_integers():
    table = Table(np.array([[0, 1]]), np.array([0]), np.int64(1))
    assert [type(number) for number in (table.num_microbatches, *table.placement)] == [int, int]


def test_from_slots_refuses_negative_ranks():
    with pytest.raises(ScheduleError, match="placement has rank -1; number the ranks from 0"):
        Table.from_slots({"F": [[0]]}, placement=(-1,))


@pytest.mark.parametrize("task", [Task("F", 1, 0), Task("F", 0, 2)])
def test_task_out_of_range_names_its_place(task):
    with pytest.raises(ScheduleError, match=rf"{task} on rank 0, slot 1 is out of range; use .* 0 to 0 .* 0 to 1\."):
        Table.from_rows([[F0, task]], placement=(0,), num_microbatches=2)


def test_stage_on_a_missing_rank_names_it():
    with pytest.raises(ScheduleError, match="stage 1 is placed on rank 2, .* from 0 to 0"):
        Table.from_rows([[F0, B0]], placement=(0, 2), num_microbatches=1)


@pytest.mark.parametrize(
    ("cells", "placement", "m", "text"),
    [
        (np.zeros((1, 1)), (0,), 1, "pass integers of shape"),
        (np.zeros(3, int), (0,), 1, "pass integers of shape"),
        (np.zeros((0, 3), int), (0,), 1, "both at least 1"),
        (np.array([[4]]), (0,), 1, "cell 4 is no task: codes are -1 to 3"),
        (np.array([[-2]]), (0,), 1, "cell -2 is no task"),
        (np.array([[0]]), (), 1, "at least one of each"),
        (np.array([[0]]), (0,), 0, "at least one of each"),
        (np.array([[0]]), (0,), 2**40, "use at most 268435456 microbatches"),
        (np.array([[0]]), (0.7,), 1, r"placement=\(0\.7,\) is no map of stages to ranks; pass an integer for each"),
        (np.array([[0]]), (0,), 1.5, "num_microbatches=1.5 is not an integer; use num_microbatches=2"),
    ],
)
def test_cells_that_are_no_table(cells, placement, m, text):
    with pytest.raises(ScheduleError, match=text):
        Table(cells, placement, m)


def test_uneven_rows_are_filled_up():
    table = Table.from_rows([[None] * 9 + [F0, B0], []], placement=(0,), num_microbatches=1)
    assert (table.num_slots, table.order(1)) == (11, ())


def test_rows_too_uneven_for_memory_are_refused():
    rows = [[None] * 10_000] + [[]] * 10_000
    with pytest.raises(ScheduleError, match="too large a grid; shorten the rows"):
        Table.from_rows(rows, placement=(0,), num_microbatches=1)


@given(tables())
def test_ascends_reads_the_rows(table):
    for kinds in ("F", "B", "W", "BW"):
        runs = [
            [task.microbatch for task in table.order(rank) if task.stage == stage and task.kind in kinds]
            for stage, rank in enumerate(table.placement)
        ]
        assert table.ascends(*kinds) == all(run == sorted(run) for run in runs)


def test_repr_is_short():
    assert repr(GPipe().table(2, 4)) == "Table(num_ranks=2, num_stages=2, num_microbatches=4, num_slots=10)"


PAIR = Overlap(Task("F", 0, 1), Task("B", 0, 0))
ROW = [F0, PAIR, Task("B", 0, 1)]


def test_an_overlap_reads_the_same_in_both_of_its_slots():
    table = Table.from_rows([ROW], placement=(0,), num_microbatches=2)
    assert table.rows[0] == [F0, PAIR, PAIR, Task("B", 0, 1)]
    assert table.rows[0][2:] == [PAIR, Task("B", 0, 1)]
    assert table.rows[0][-2] == PAIR
    assert table.order(0) == tuple(ROW)
    assert table.joined.tolist() == [[False, True, False, False]]
    assert table.has_overlaps


def test_tables_without_overlaps_keep_no_marks():
    table = GPipe().table(2, 4)
    assert not table.has_overlaps
    assert table.joined.shape == table.cells.shape
    assert table.joined.strides == (0, 0)
    assert pickle.loads(pickle.dumps(table)) == table


def test_what_runs_together_is_part_of_what_a_table_is():
    together = Table.from_rows([ROW], placement=(0,), num_microbatches=2)
    apart = Table(together.cells, (0,), 2)
    assert apart != together
    assert {together: 1}[pickle.loads(pickle.dumps(together))] == 1
    assert Table(together.cells, (0,), 2, np.zeros((1, 4), bool)) == apart


def test_marks_are_a_copy_that_cannot_be_written():
    joined = np.array([[False, True, False, False]])
    table = Table(Table.from_rows([ROW], placement=(0,), num_microbatches=2).cells, (0,), 2, joined)
    joined[0, 1] = False
    assert table.order(0) == tuple(ROW)
    with pytest.raises(ValueError, match="read-only"):
        table.joined[0, 1] = False


@given(paired_tables())
def test_rows_and_orders_give_overlaps_back(table):
    orders = [table.order(rank) for rank in range(table.num_ranks)]
    for rows in (table.rows, orders):
        again = Table.from_rows(rows, placement=table.placement, num_microbatches=table.num_microbatches)
        assert [again.order(rank) for rank in range(again.num_ranks)] == orders


@pytest.mark.parametrize(
    ("joined", "text"),
    [
        ([[1, 0, 0, 0]], "joined is int64.*pass booleans of the shape of cells"),
        ([[True, False]], r"joined is bool\[1, 2\]; pass booleans of the shape of cells, \[1, 4\]"),
        ([[False, False, False, True]], "joined marks the last slot, 3; mark the first slot of each pair"),
        ([[True, False, False, False]], "slots 0 and 1 of rank 0 cannot run together; join a forward with a backward"),
        ([[False, False, True, False]], "slots 2 and 3 of rank 0 cannot run together"),
    ],
)
def test_cells_that_cannot_run_together(joined, text):
    cells = Table.from_rows([[F0, Task("F", 0, 1), B0, Task("B", 0, 1)]], placement=(0,), num_microbatches=2).cells
    with pytest.raises(ScheduleError, match=text):
        Table(cells, (0,), 2, np.array(joined))


def test_from_slots_leaves_out_what_is_not_there_and_joins():
    slots = {"F": [[0, 1]], "B": [[2, -9]], "I": [[-9, 3]], "W": [[-9, 4]]}
    there = np.array([[False, True]])
    table = Table.from_slots(slots, placement=(0,), where={"B": ~there, "I": there, "W": there}, joined=there)
    assert " ".join(map(str, table.order(0))) == "0F0 0F1&0B0 0I1 0W1"


@pytest.mark.parametrize("masks", [{"where": {"B": [True]}}, {"where": {"B": [[0, 1]]}}, {"joined": [[True]]}])
def test_masks_are_of_the_shape_of_the_slots(masks):
    with pytest.raises(
        ScheduleError, match=r"where or joined holds .*; pass booleans of shape .* \[1, 2\] as the slots"
    ):
        Table.from_slots({"F": [[0, 1]], "B": [[2, 3]]}, placement=(0,), **masks)


def test_ascending_reads_both_parts_of_overlaps():
    table = DualPipeV().table(2, 6)
    assert [table.ascends(*kinds) for kinds in ("F", "BI", "BW")] == [True, True, True]
