"""Each schedule that torch.distributed.pipelining has too: the same tasks in the same order, or as fast.

Its schedule for inference has no list of tasks to compare with; Eager 1F1B, ZB-H1, ZB-H2, V-Half and V-Min it lacks.
"""

import pytest
from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops

from funpipe._errors import ScheduleError
from funpipe.schedules import (
    ZBV,
    DualPipeV,
    GPipe,
    Interleaved1F1B,
    InterleavedZeroBubble,
    LoopedBFS,
    OneFOneB,
    Schedule,
    Table,
    Task,
    simulate,
)
from tests.schedules.family import run

SIZES = [*((p, m) for p in (2, 3, 4) for m in (p, 2 * p - 1, 2 * p, 4 * p)), (8, 16)]
ROUNDS = [(p, m) for p, m in SIZES if m % (m // p) == 0]


def theirs(name, p, m, v=None):
    """The tasks of each of torch's ranks as text, pairs as funpipe writes them, without idle slots and reductions."""
    rows = get_schedule_ops(name, p, m, v)
    return [[text(action) for action in row if action is not None and "REDUCE" not in str(action)] for row in rows]


def text(action):
    return "&".join(map(str, action.sub_actions)) if action.sub_actions else str(action)


def ours(schedule: Schedule, p, m):
    table = schedule.table(p, m)
    return [[str(task) for task in table.order(rank)] for rank in range(p)]


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_gpipe(p, m):
    assert ours(GPipe(), p, m) == theirs("GPipe", p, m)


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_1f1b(p, m):
    """The list of torch's last rank numbers its forwards from 1, which its executor does not use; the rest is equal."""
    expected = theirs("1F1B", p, m)
    expected[-1] = [f"{p - 1}F{int(task.split('F')[1]) - 1}" if "F" in task else task for task in expected[-1]]
    assert ours(OneFOneB(), p, m) == expected


@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize(("p", "m"), ROUNDS)
def test_interleaved_1f1b(p, m, v):
    assert ours(Interleaved1F1B(v), p, m) == theirs("Interleaved1F1B", p, m, v)


@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_looped_bfs(p, m, v):
    """torch's backwards go from the last microbatch to the first; these ascend, for the bits of one device: as fast."""
    expected = theirs("LoopedBFS", p, m, v)
    rows = [[Task.parse(task) for task in row] for row in expected]
    descending = Table.from_rows(rows, placement=LoopedBFS(v).placement(p), num_microbatches=m)
    assert ours(LoopedBFS(v), p, m) == [[str(ascending(task, m)) for task in row] for row in rows]
    assert run(LoopedBFS(v), p, m).makespan <= simulate(descending, F=1 / v, I=1 / v, W=1 / v).makespan + 1e-9


def ascending(task, m):
    return task if task.kind == "F" else Task(task.kind, task.stage, m - 1 - task.microbatch)


@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize(("p", "m"), ROUNDS)
def test_interleaved_zero_bubble(p, m, v):
    assert ours(InterleavedZeroBubble(v), p, m) == theirs("InterleavedZeroBubble", p, m, v)


@pytest.mark.parametrize("schedule", [Interleaved1F1B(), InterleavedZeroBubble()])
@pytest.mark.parametrize("p", [2, 3, 5])
def test_both_refuse_the_same_rounds(schedule, p):
    name = type(schedule).__name__
    for m in range(1, 4 * p):
        try:
            expected = theirs(name, p, m, 2)
        except ValueError:
            expected = None
        if expected is None:
            with pytest.raises(ScheduleError, match="rounds of equal size"):
                schedule.table(p, m)
        else:
            assert ours(schedule, p, m) == expected


@pytest.mark.parametrize(("p", "m"), [(p, m) for p, m in SIZES if m >= 2 * p - 1])
def test_zbv(p, m):
    """With fewer microbatches torch leaves some of 2p - 1 out, and the bubble is larger; here that is refused."""
    assert ours(ZBV(), p, m) == theirs("ZBVZeroBubble", p, m)


@pytest.mark.parametrize(("p", "m"), [(p, m) for p, m in SIZES if m >= 2 * p])
def test_dual_pipe_v(p, m):
    assert ours(DualPipeV(), p, m) == theirs("DualPipeV", p, m)
