import json
from collections import defaultdict

import pytest
from hypothesis import given

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.display import compare, trace
from funpipe.schedules import Communication, GPipe, simulate
from tests.display.pictures import PAIR, PROFILE, SIMULATION, TABLE
from tests.schedules.tables import tables


def traced(x, folder, **options):
    trace(x, folder / "trace.json", **options)
    return json.loads((folder / "trace.json").read_text())["traceEvents"]


def spans(events):
    """For each row its slices by start, in microseconds."""
    rows = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            times = round(event["ts"], 6), round(event["ts"] + event["dur"], 6)
            rows[event["pid"], event["tid"]].append((*times, event["name"], event["cat"]))
    return {row: sorted(found) for row, found in rows.items()}


def test_tasks_and_idle_time(tmp_path):
    assert spans(traced(TABLE, tmp_path, seconds=1e-6))[0, 0] == [
        (0, 1, "F0", "compute"),
        (1, 2, "F1", "compute"),
        (2, 3, "idle", "idle"),
        (3, 4, "B0", "compute"),
        (4, 5, "F2", "compute"),
        (5, 6, "B1", "compute"),
        (6, 7, "idle", "idle"),
        (7, 8, "B2", "compute"),
    ]


def test_messages_have_rows_of_their_own(tmp_path):
    events = traced(SIMULATION, tmp_path, seconds=1e-3)
    assert [(start, end) for start, end, *_ in spans(events)[0, 1]] == [(1000, 1500), (2000, 2500), (8000, 8500)]
    names = [e["args"]["name"] for e in events if e["name"] == "thread_name" and e["pid"] == 0]
    assert names == ["tasks", "messages"]


def test_two_at_once_are_one_slice(tmp_path):
    assert (4e6, 6e6, "0F1&3B0", "compute") in spans(traced(PAIR, tmp_path))[0, 0]


@given(tables())
def test_slices_of_a_row_do_not_cross(tmp_path_factory, table):
    simulation = simulate(table, F=1.0, B=2.0, communication=Communication(latency=3.0))
    rows = spans(traced(simulation, tmp_path_factory.getbasetemp()))
    assert len([name for row in rows.values() for *_, name, cat in row if cat == "compute"]) == (table.cells >= 0).sum()
    for row in rows.values():
        assert all(before[1] <= after[0] + 1e-3 for before, after in zip(row, row[1:], strict=False))


def test_a_profile_writes_itself(tmp_path):
    events = traced(PROFILE, tmp_path)
    PROFILE.save(tmp_path / "own.json")
    assert events == json.loads((tmp_path / "own.json").read_text())["traceEvents"]


def test_a_comparison_is_in_the_profiles_time(tmp_path):
    shown = compare(simulate(GPipe().table(2, 1), F=2.0, B=3.5), PROFILE, seconds=1e-3)
    rows = spans(traced(shown, tmp_path))
    assert rows[0, 0][1][:3] == (1000, 3000, "F0")
    assert rows[1, 0][1][:3] == (pytest.approx(1000), pytest.approx(3000), "F0")


def test_nothing_is_left_out_of_a_large_table(tmp_path):
    rows = spans(traced(GPipe().table(70, 70), tmp_path))
    assert len(rows) == 70


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_unit_of_time_has_a_length(seconds, tmp_path):
    with pytest.raises(ScheduleError, match="pass how long a unit of time is"):
        trace(TABLE, tmp_path / "trace.json", seconds=seconds)


def test_what_has_no_picture(tmp_path):
    with pytest.raises(FunpipeTypeError, match="a int has no picture"):
        trace(3, tmp_path / "trace.json")
