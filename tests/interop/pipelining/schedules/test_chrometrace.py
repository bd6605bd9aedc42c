import json

from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining.schedules import _ComputationType, _dump_chrometrace, _simulate_comms_compute
from tests.interop.pipelining.schedules.grids import Grid, every_grid
from tests.interop.pipelining.schedules.made import as_theirs, made, rows


def events(found, path, root_dump=_dump_chrometrace):
    root_dump(found, str(path))
    return json.loads(path.read_text())["traceEvents"]


@every_grid
def test_the_file_is_that_of_torch_but_for_what_computes(name, p, m, tmp_path):
    """torch calls I and OVERLAP_F_B communication."""
    grid = Grid(name, p, m)
    expected = events(as_theirs(grid.rows), tmp_path / "theirs.json", theirs._dump_chrometrace)
    assert events(grid.rows, tmp_path / "ours.json") == [{**event, "cat": "computation"} for event in expected]


def test_every_kind_is_labelled(tmp_path):
    line = " ".join(f"0{kind.value}0" for kind in _ComputationType if kind.value != "OVERLAP_F_B")
    found = events(rows(line + " (0F1;0B0)OVERLAP_F_B"), tmp_path / "kinds.json")
    computes = {event["name"] for event in found if event["cat"] == "computation"}
    assert computes == {"0F0", "0I0", "0W0", "0B0", "(0F1;0B0)OVERLAP_F_B"}
    assert [event["ts"] for event in found] == list(range(len(_ComputationType)))


def test_a_simulated_schedule_is_written(tmp_path):
    schedule = made("ScheduleDualPipeV", 2, 4)
    found = events(schedule._simulate(), tmp_path / "simulated.json")
    assert len(found) == sum(map(len, schedule.pipeline_order_with_comms.values()))
    assert {(event["pid"], event["tid"], event["dur"], event["ph"]) for event in found} == {
        (0, 0, 1, "X"),
        (1, 1, 1, "X"),
    }


def test_idle_steps_are_left_out(tmp_path):
    found = _simulate_comms_compute(rows("0F0 0SEND_F0", "1RECV_F0 1F0"), lambda stage: stage, 2)
    assert [event["ts"] for event in events(found, tmp_path / "idle.json") if event["pid"] == 1] == [1, 2]
