"""The schedules with several stages on each rank: their rows, and for which numbers they exist."""

import re

import pytest

import funpipe as fp
from funpipe.interop.pipelining.schedules import ScheduleZBVZeroBubble, _validate_schedule
from tests.interop.pipelining.schedules.made import LOOPS, MULTI, VEES, as_text, made, stage, theirs

TABLES = {
    "ScheduleLoopedBFS": fp.schedules.LoopedBFS(2),
    "ScheduleInterleaved1F1B": fp.schedules.Interleaved1F1B(2),
    "ScheduleInterleavedZeroBubble": fp.schedules.InterleavedZeroBubble(2),
    "ScheduleZBVZeroBubble": fp.schedules.ZBV(),
    "ScheduleDualPipeV": fp.schedules.DualPipeV(),
}


class Bare(theirs._PipelineStageBase):
    """A stage that torch's schedules take."""

    def __init__(self, num_stages, num_ranks, index):
        self.submod, self.num_stages, self.group_size = None, num_stages, num_ranks
        self.group_rank, self.group, self.stage_index, self.has_backward = 0, None, index, False


Bare.__abstractmethods__ = frozenset()


def of_torch(name, p, m, v=2):
    return getattr(theirs, name)([Bare(p * v, p, index) for index in range(v)], m)


def in_order(found):
    return {rank: [str(action) for action in row if action is not None] for rank, row in found.items()}


def text(task):
    """A task, or two at once, as an action's text."""
    return f"({task.first};{task.second})OVERLAP_F_B" if isinstance(task, fp.schedules.Overlap) else str(task)


@pytest.mark.parametrize("name", MULTI)
@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 8), (3, 6)])
def test_the_rows_are_those_of_the_table(name, p, m):
    schedule = made(name, p, m)
    table = TABLES[name].table(p, m)
    tasks = {rank: [text(task) for task in table.order(rank)] for rank in range(p)}
    assert in_order(schedule.pipeline_order) == tasks
    assert schedule.stage_index_to_group_rank == dict(enumerate(table.placement))


@pytest.mark.parametrize("name", [name for name in MULTI if name != "ScheduleLoopedBFS"])
@pytest.mark.parametrize(("p", "m"), [(1, 4), (2, 4), (4, 8), (3, 6), (2, 8)])
def test_rows_with_and_without_communication_are_those_of_torch(name, p, m):
    """Idle cells aside; looped BFS runs its backwards from the last microbatch to the first there, ascending here."""
    found, expected = made(name, p, m), of_torch(name, p, m)
    assert in_order(found.pipeline_order) == in_order(expected.pipeline_order)
    assert found.stage_index_to_group_rank == expected.stage_index_to_group_rank
    orders = [schedule.pipeline_order_with_comms for schedule in (found, expected)]
    assert {r: sorted(map(str, row)) for r, row in orders[0].items()} == {
        r: sorted(map(str, row)) for r, row in orders[1].items()
    }


@pytest.mark.parametrize("name", MULTI)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_it_exists_for_the_microbatches_that_torch_takes(name, p):
    for m in range(1, 4 * p + 1):
        try:
            of_torch(name, p, m)
        except ValueError as error:
            with pytest.raises(ValueError, match=re.escape(str(error).rstrip("."))) as raised:
                made(name, p, m)
            assert isinstance(raised.value, fp.FunpipeError)
        else:
            order = made(name, p, m).pipeline_order
            assert len(_validate_schedule(order, p, 2 * p, m)) == 2 * p


@pytest.mark.parametrize("p", [2, 3, 4])
def test_zbv_runs_few_microbatches_in_the_order_of_torch(p):
    for m in range(1, 2 * p - 1):
        assert in_order(made("ScheduleZBVZeroBubble", p, m).pipeline_order) == in_order(
            of_torch("ScheduleZBVZeroBubble", p, m).pipeline_order
        )


@pytest.mark.parametrize("name", VEES)
def test_a_v_has_two_stages_on_each_rank(name):
    with pytest.raises(ValueError, match="requires exactly 2 stages per rank, but got 3"):
        made(name, 2, 6, v=3)


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("v", [1, 3])
def test_a_loop_has_any_number_of_stages_on_each_rank(name, v):
    assert made(name, 2, 4, v=v)._num_stages == 2 * v


@pytest.mark.parametrize("name", MULTI)
def test_all_stages_of_a_rank_are_passed(name):
    with pytest.raises(ValueError, match="2 stages on each of 2 ranks are 4 stages, but num_stages is 6"):
        made(name, 2, 6, v=2).__class__([stage(6, 2, 0), stage(6, 2, 2)], 6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "ScheduleInterleaved1F1B",
            r"Interleaved 1F1B requires .* rounds \(2\), but got 5\. Use n_microbatches=4 or",
        ),
        (
            "ScheduleInterleavedZeroBubble",
            r"Zero bubble requires .* rounds \(2\), but got 5\. Use n_microbatches=4 or",
        ),
    ],
)
def test_rounds_are_of_equal_size(name, text):
    with pytest.raises(ValueError, match=text):
        made(name, 2, 5)


def test_it_knows_its_rounds():
    schedule = made("ScheduleInterleaved1F1B", 2, 6)
    assert (schedule.number_of_rounds, schedule.microbatches_per_round, schedule.n_local_stages) == (3, 2, 2)


def test_looped_bfs_runs_backwards_in_ascending_order():
    row = as_text(made("ScheduleLoopedBFS", 1, 2).pipeline_order[0])
    assert [action for action in row if "B" in action] == ["1B0", "1B1", "0B0", "0B1"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_stages_that_were_compiled_are_taken():
    """torch refuses them for schedules with split backwards."""
    import torch

    compiled = torch.compile(torch.nn.Linear(2, 2))
    stages = [stage(4, 2, i, submod=compiled) for i in (0, 3)]
    assert ScheduleZBVZeroBubble(stages, 4).pipeline_order
