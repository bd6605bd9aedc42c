import pytest

from funpipe._errors import ProgramError
from funpipe.passes import early_receives
from funpipe.programs import verify
from funpipe.programs.instructions import PostRecv, Run, Send, WaitRecv, Zero
from funpipe.schedules import GPipe, OneFOneB, Table, Task
from tests.programs.models import MODELS, chain, programs_of, tied

SCHEDULES = [GPipe(), OneFOneB()]


def runs_between(program, message):
    """How many runs lie between the post of a message and its wait."""
    at = {(type(i), i.message): n for n, i in enumerate(program.instructions) if isinstance(i, PostRecv | WaitRecv)}
    span = program.instructions[at[PostRecv, message] : at[WaitRecv, message]]
    return sum(isinstance(i, Run) for i in span)


def received(program):
    return [i.message for i in program.instructions if isinstance(i, WaitRecv)]


def is_first(program, message):
    """Whether no run comes before the wait of a message."""
    end = program.instructions.index(
        next(i for i in program.instructions if isinstance(i, WaitRecv) and i.message == message)
    )
    return not any(isinstance(i, Run) for i in program.instructions[:end])


def edges(programs, kind):
    """The messages of each edge in the order of a kind of instruction."""
    found = {}
    for program in programs.programs:
        for i in program.instructions:
            if isinstance(i, kind):
                message = programs.messages[i.message]
                found.setdefault((message.src, message.dst), []).append(message.id)
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_a_transfer_overlaps_one_run(num_ranks, schedule):
    programs = early_receives(programs_of(chain, num_ranks, 4, schedule))
    for program in programs.programs:
        for message in received(program):
            assert runs_between(program, message) == 1 - is_first(program, message)


@pytest.mark.parametrize("loss_fn", MODELS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_each_edge_receives_in_the_order_of_its_sends(loss_fn, num_ranks, schedule):
    programs = early_receives(programs_of(loss_fn, num_ranks, 4, schedule))
    assert edges(programs, PostRecv) == edges(programs, Send)
    assert verify(programs)


def test_a_receive_moves_up_further_where_the_sends_ask_for_it():
    #  rank 0 | 0F0 0F1 0F2 .   ...
    #  rank 1 | .   .   .   1F2 1F1 1F0 ...
    rows = [["0F0", "0F1", "0F2", "0B2", "0B1", "0B0"], ["1F2", "1F1", "1F0", "1B2", "1B1", "1B0"]]
    tasks = [[Task.parse(text) for text in row] for row in rows]
    plan = programs_of(chain, 2, schedule=Table.from_rows(tasks, placement=(0, 1), num_microbatches=3))
    with pytest.raises(ProgramError, match="in the order of its sends"):
        verify(plan)
    moved = early_receives(plan)
    assert verify(moved)
    assert edges(moved, PostRecv)[0, 1] == edges(moved, Send)[0, 1]
    first = [i for i in moved.programs[1].instructions if not isinstance(i, Zero)][:3]
    assert first == [PostRecv(message) for message in edges(moved, Send)[0, 1]]


def test_nothing_else_moves():
    plan = programs_of(tied, 3, 3)
    for before, after in zip(plan.programs, early_receives(plan).programs, strict=True):
        rest = [[i for i in p.instructions if not isinstance(i, PostRecv)] for p in (before, after)]
        assert rest[0] == rest[1]
        assert len(before.instructions) == len(after.instructions)


def test_a_second_time_changes_nothing():
    once = early_receives(programs_of(tied, 3, 3))
    assert early_receives(once).as_text() == once.as_text()
