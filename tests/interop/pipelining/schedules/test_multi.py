import pytest

from funpipe import FunpipeError
from funpipe.interop.pipelining.schedules import PipelineScheduleMulti
from tests.interop.pipelining.schedules.made import rows, stage

LINES = ("0F0 . . 3F0 3B0 . . 0B0", ". 1F0 2F0 . . 2B0 1B0")


def multi(**options):
    return PipelineScheduleMulti([stage(4, 2, 0), stage(4, 2, 3)], 1, **options)


class Mine(PipelineScheduleMulti):
    """A user's schedule: one microbatch through a V."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pipeline_order = rows(*LINES)
        self._validate_and_set_stage_mapping(self.pipeline_order)


def test_at_first_stages_are_in_a_loop():
    schedule = multi()
    assert schedule.stage_index_to_group_rank == {0: 0, 1: 1, 2: 0, 3: 1}
    assert all(one.stage_index_to_group_rank == schedule.stage_index_to_group_rank for one in schedule._stages)


def test_it_knows_its_place():
    schedule = multi()
    assert (schedule.pp_group_size, schedule.rank, schedule._num_stages, schedule._n_microbatches) == (2, 0, 4, 1)


def test_a_users_rows_say_where_stages_are_and_are_run(engines):
    schedule = Mine([stage(4, 2, 0), stage(4, 2, 3)], 1)
    assert schedule._stages[0].stage_index_to_group_rank == {0: 0, 1: 1, 2: 1, 3: 0}
    schedule.step()
    assert engines[0].table.placement == (0, 1, 1, 0)
    assert " ".join(map(str, engines[0].table.order(0))) == "0F0 3F0 3B0 0B0"


def test_rows_that_are_no_schedule_are_refused():
    with pytest.raises(AssertionError, match="Schedule has incorrect number of ranks - expected 2, actual 1"):
        multi()._validate_and_set_stage_mapping(rows(LINES[0]))


def test_without_rows_it_says_so():
    with pytest.raises(AssertionError, match="PipelineScheduleMulti has no pipeline_order; set it"):
        multi().step()


def test_rows_go_to_a_file_and_back(tmp_path, engines):
    written, read = Mine([stage(4, 2, 0), stage(4, 2, 3)], 1), multi()
    written._dump_csv(str(tmp_path / "rows.csv"))
    assert (tmp_path / "rows.csv").read_text() == "0F0,,,3F0,3B0,,,0B0\n,1F0,2F0,,,2B0,1B0\n"
    read._load_csv(str(tmp_path / "rows.csv"))
    assert read.pipeline_order == written.pipeline_order
    assert read.stage_index_to_group_rank == {0: 0, 1: 1, 2: 1, 3: 0}
    read.step()


def test_a_file_has_computations_alone(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("0F0,0SEND_F0,0B0\n1F0,1B0\n")
    with pytest.raises(ValueError, match="found communication action '0SEND_F0' at rank 0, position 1") as raised:
        multi()._load_csv(str(path))
    assert isinstance(raised.value, FunpipeError)
    with pytest.raises(AssertionError, match='format must be "compute_only", got compute_comms'):
        multi()._load_csv(str(path), format="compute_comms")


def test_a_file_that_is_no_schedule_changes_nothing(tmp_path):
    schedule = Mine([stage(4, 2, 0), stage(4, 2, 3)], 1)
    (tmp_path / "rows.csv").write_text("0F0,0B0\n1F0,1B0\n")
    with pytest.raises(AssertionError):
        schedule._load_csv(str(tmp_path / "rows.csv"))
    assert schedule.pipeline_order == rows(*LINES)


def test_stages_are_needed():
    with pytest.raises(IndexError, match="stages is empty"):
        PipelineScheduleMulti([], 1)


def test_use_full_backward_is_said_to_do_nothing():
    with pytest.warns(FutureWarning, match="use_full_backward does nothing"):
        multi(use_full_backward=True)
