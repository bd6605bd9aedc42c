import pytest
from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining.schedules import PipelineScheduleSingle, _validate_schedule
from tests.interop.pipelining.schedules.made import SINGLES, as_text, made, rows, stage


@pytest.mark.parametrize("name", SINGLES)
@pytest.mark.parametrize(("p", "m"), [(1, 3), (2, 2), (4, 8)])
def test_the_rows_are_a_schedule_with_reductions(name, p, m):
    order = made(name, p, m).pipeline_order
    assert _validate_schedule(order, p, p, m) == {s: s for s in range(p)}
    assert all([str(a) for a in row if a].index(f"{rank}REDUCE_GRAD") == 2 * m for rank, row in order.items())


@pytest.mark.parametrize("name", SINGLES)
def test_the_rows_keep_their_bubbles(name):
    """torch's have lost them, and start with the second microbatch on the last rank of 1F1B."""
    order = made(name, 3, 4).pipeline_order
    assert as_text(order[2])[:3] == [".", ".", "2F0"]


@pytest.mark.parametrize("name", SINGLES)
@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 4), (3, 7)])
def test_the_rows_are_those_of_torch_but_for_bubbles_and_the_last_rank_of_1f1b(name, p, m):
    order = made(name, p, m).pipeline_order
    cls = getattr(theirs, name)
    expected = cls._get_pipeline_order(type("Numbers", (), {"_num_stages": p, "_n_microbatches": m}))
    for rank in range(p - (name == "Schedule1F1B")):
        assert [str(a) for a in order[rank] if a] == [str(a) for a in expected[rank] if a]


def test_a_subclass_gives_its_rows(engines):
    class Mine(PipelineScheduleSingle):
        def _get_pipeline_order(self):
            return rows("0F0 0B0 0F1 0B1")

    schedule = Mine(stage(1), 2)
    schedule.step()
    assert " ".join(map(str, engines[0].table.order(0))) == "0F0 0B0 0F1 0B1"


def test_it_knows_its_stage():
    schedule = made("ScheduleGPipe", 3, 3)
    assert (schedule._num_stages, schedule._n_microbatches, schedule._stage.stage_index) == (3, 3, 0)
    assert not schedule._stage.has_backward


def test_1f1b_needs_as_many_microbatches_as_stages():
    with pytest.raises(ValueError, match=r"Number of microbatches \(3\) must be greater than .* use n_microbatches=4"):
        made("Schedule1F1B", 4, 3)
