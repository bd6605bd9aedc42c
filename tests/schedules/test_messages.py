import pytest
from hypothesis import given

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, OneFOneB, Overlap, Table, Task
from funpipe.schedules.actions import Action
from funpipe.schedules.messages import with_communication
from tests.schedules.tables import tables


def rows_of(table):
    return with_communication([table.order(rank) for rank in range(table.num_ranks)], table.placement)


def written(table):
    return [" ".join(map(str, row)) for row in rows_of(table)]


def test_one_f_one_b():
    assert written(OneFOneB().table(2, 2)) == [
        "0UNSHARD 0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1 0REDUCE_GRAD 0RESHARD",
        "1UNSHARD 1RECV_F0 1F0 1RECV_F1 1B0 1SEND_B0 1F1 1B1 1SEND_B1 1REDUCE_GRAD 1RESHARD",
    ]


def test_nothing_is_sent_inside_a_rank():
    row = [Task("F", 0, 0), Task("F", 1, 0), Task("B", 1, 0), Task("B", 0, 0)]
    table = Table.from_rows([row], placement=(0, 0), num_microbatches=1)
    assert written(table) == ["0UNSHARD 1UNSHARD 0F0 1F0 1B0 1REDUCE_GRAD 1RESHARD 0B0 0REDUCE_GRAD 0RESHARD"]


def test_at_most_three_stages_have_their_parameters_at_once():
    forward = [Task("F", s, 0) for s in range(5)]
    backward = [Task("B", s, 0) for s in reversed(range(5))]
    table = Table.from_rows([forward + backward], placement=(0,) * 5, num_microbatches=1)
    held = most = 0
    for item in rows_of(table)[0]:
        if isinstance(item, Action):
            held += {"UNSHARD": 1, "RESHARD": -1}.get(item.kind, 0)
        most = max(most, held)
    assert (held, most) == (0, 3)


def test_two_at_once_send_both_results_after_them():
    pair = Overlap(Task("F", 0, 1), Task("B", 3, 0))
    rows = [
        [Task("F", 0, 0), Task("F", 3, 0), pair, Task("F", 3, 1), Task("B", 3, 1), Task("B", 0, 0), Task("B", 0, 1)],
        [Task(kind, s, i) for i in (0, 1) for kind, s in [("F", 1), ("F", 2), ("B", 2), ("B", 1)]],
    ]
    table = Table.from_rows(rows, placement=(0, 1, 1, 0), num_microbatches=2)
    row = rows_of(table)[0]
    at = row.index(pair)
    assert list(map(str, row[at + 1 : at + 3])) == ["0SEND_F1", "3SEND_B0"]


def test_a_deadlock_is_an_error():
    rows = [[Task("B", 0, 0), Task("F", 0, 0)], [Task("F", 1, 0), Task("B", 1, 0)]]
    table = Table.from_rows(rows, placement=(0, 1), num_microbatches=1)
    with pytest.raises(ScheduleError, match=r"wait for each other.*fp\.schedules\.check\(table\) shows where; reorder"):
        rows_of(table)


@given(tables())
def test_tasks_keep_their_order(table):
    for rank, row in enumerate(rows_of(table)):
        assert tuple(item for item in row if not isinstance(item, Action)) == table.order(rank)


def test_both_ends_of_two_ranks_have_one_order():
    first, second = rows_of(GPipe().table(2, 3))
    sent = [str(a) for a in first if isinstance(a, Action) and a.kind == "SEND_F"]
    got = [str(a) for a in second if isinstance(a, Action) and a.kind == "RECV_F"]
    assert sent == ["0SEND_F0", "0SEND_F1", "0SEND_F2"]
    assert got == ["1RECV_F0", "1RECV_F1", "1RECV_F2"]
