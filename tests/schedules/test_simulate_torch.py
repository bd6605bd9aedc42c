"""The step counts of torch.distributed.pipelining's own simulator, which knows no times: each action takes a step.

A send and its receive are actions of their own, which may share a step: the ranks at both ends are busy for one unit of
time, and the receive can begin when the send does. That is communication that is not overlapped.
"""

import pytest
from torch.distributed.pipelining import schedules as theirs

from funpipe.schedules import Communication, Table, Task, get, simulate

UNIT = Communication(latency=1.0, overlap=False)
NAMES = ("gpipe", "1f1b", "interleaved1f1b", "loopedbfs", "interleavedzerobubble", "zbv")
TABLES = [
    pytest.param(get(n)().table(p, m), id=f"{n}-{p}-{m}") for n in NAMES for p in (2, 3, 4) for m in (2 * p, 4 * p)
]


def with_messages(table):
    """The actions of each rank as torch makes them: a receive as soon as its message is sent."""
    rows = {r: [theirs._Action.from_str(str(task)) for task in table.order(r)] for r in range(table.num_ranks)}
    return theirs._add_send_recv(rows, lambda stage: table.placement[stage], table.num_stages)


def steps(table, rows):
    """What torch's simulator counts."""
    done = theirs._simulate_comms_compute(rows, lambda stage: table.placement[stage], table.num_stages)
    return max(map(len, done.values()))


@pytest.mark.parametrize("table", TABLES)
def test_steps_with_receives_right_before_their_tasks(table):
    rows = {rank: late(row) for rank, row in with_messages(table).items()}
    assert simulate(table, B=1.0, communication=UNIT).makespan == steps(table, rows)


def late(row):
    """Each receive moved to right before the task that needs it."""
    receives = {theirs.F: theirs.RECV_F, theirs.FULL_BACKWARD: theirs.RECV_B, theirs.BACKWARD_INPUT: theirs.RECV_B}
    moved = []
    for action in row:
        if action.computation_type not in receives.values():
            needed = action._replace(computation_type=receives.get(action.computation_type))
            moved += [needed, action] if needed in row else [action]
    return moved


# Elsewhere in a row a receive is in the way of other tasks. So both ends of a message become stages of their own, one
# on either rank, that take no time but for the message between them:
#
#     stage 0 | send 0F, receive 0B | receive 1F, send 1B | stage 1
#       rank 0                      |                      rank 1
@pytest.mark.parametrize("table", TABLES)
def test_steps_with_receives_where_torch_puts_them(table):
    rows = with_messages(table)
    number, placement = with_ends(table)
    written = [[as_task(action, number) for action in rows[rank]] for rank in range(table.num_ranks)]
    virtual = Table.from_rows(written, placement=placement, num_microbatches=table.num_microbatches)
    time = [float(stage in [number["stage", s] for s in range(table.num_stages)]) for stage in range(len(placement))]
    assert simulate(virtual, time, time, communication=UNIT).makespan == steps(table, rows)


def with_ends(table):
    """The number of each stage, and of both ends of each message, and the ranks of all of them."""
    number, placement = {}, []
    for stage, rank in enumerate(table.placement):
        if stage and table.placement[stage - 1] != rank:
            number["left", stage], number["right", stage] = len(placement), len(placement) + 1
            placement += [table.placement[stage - 1], rank]
        number["stage", stage] = len(placement)
        placement.append(rank)
    return number, placement


def as_task(action, number):
    ends = {
        theirs.SEND_F: ("F", "left", 1),
        theirs.RECV_F: ("F", "right", 0),
        theirs.SEND_B: ("B", "right", 0),
        theirs.RECV_B: ("B", "left", 1),
    }
    if action.computation_type not in ends:
        task = Task.parse(str(action))
        return Task(task.kind, number["stage", task.stage], task.microbatch)
    kind, end, further = ends[action.computation_type]
    return Task(kind, number[end, action.stage_index + further], action.microbatch_index)
