import re
from dataclasses import replace

import pytest

from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.programs import verify
from funpipe.programs.instructions import AllReduce, PostRecv, Send, WaitRecv, WaitSend
from funpipe.programs.rules.deadlock import no_deadlock
from funpipe.schedules import GPipe, OneFOneB
from tests.programs.edits import error_of, find, insert, move, remove
from tests.programs.models import chain, programs_of, weighted

GOOD = programs_of(chain, 2, 2, GPipe())


def deadlock_of(programs):
    with pytest.raises(ProgramError) as error:
        no_deadlock(programs)
    return str(error.value).splitlines()


def test_a_wait_for_a_send_that_comes_later():
    place = find(GOOD, Send, rank=0, number=1)
    lines = error_of(move(GOOD, place, (0, find(GOOD, WaitSend, rank=0)[1])))
    assert lines[0].startswith("rank 0, instruction ")
    assert "deadlock: rank 0 at " in lines[0]
    assert "; rank 1 at " in lines[0]
    assert lines[0].count("wait_recv") == 2
    assert "<-- waits for ever" in "\n".join(lines)
    assert lines[-1].startswith("Move what one of them waits for, on the other rank, before the line")


def test_waiting_for_a_send_at_once_is_allowed_where_the_peer_posts():
    end = find(GOOD, Send, rank=0)
    assert verify(move(GOOD, find(GOOD, WaitSend, rank=0), (0, end[1] + 1)))


def test_two_ranks_that_wait_for_each_other_to_post():
    plan = programs_of(chain, 2, 1)
    plan = move(plan, find(plan, WaitSend, rank=0), (0, find(plan, Send, rank=0)[1] + 1))
    plan = move(plan, find(plan, Send, rank=1), find(plan, PostRecv, rank=1))
    plan = move(plan, find(plan, WaitSend, rank=1), (1, find(plan, Send, rank=1)[1] + 1))
    lines = deadlock_of(plan)
    assert re.search(r"deadlock: rank 0 at \d+, `wait_send 0 \S+`; rank 1 at \d+, `wait_send 1 \S+`\.$", lines[0])


def test_a_collective_waits_for_all_ranks():
    plan = programs_of(weighted, 2, 1, mesh=MeshShape(2, 1))
    lines = deadlock_of(remove(plan, find(plan, AllReduce, rank=0, group="world")))
    assert "deadlock: rank 1 at " in lines[0]
    assert "`all_reduce weight world`" in lines[0]


def test_collectives_of_two_groups_in_another_order():
    plan = programs_of(weighted, 2, 1)
    end = [(r, len(p.instructions)) for r, p in enumerate(plan.programs)]
    plan = insert(plan, end[0], AllReduce("weight", "pp"), AllReduce("weight", "world"))
    plan = insert(plan, end[1], AllReduce("weight", "world"), AllReduce("weight", "pp"))
    assert "deadlock: rank 0 at " in deadlock_of(plan)[0]


def test_many_stuck_ranks_are_cut_short():
    plan = programs_of(chain, 1, 1)
    alone = insert(plan, (0, 0), WaitRecv(7, "h@0"))
    (what, *_) = deadlock_of(replace(alone, programs=alone.programs * 12))
    assert what.count("wait_recv 7") == 8
    assert what.endswith("; ....")


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", [GPipe(), OneFOneB()])
def test_schedules_that_pass_their_check_run_to_the_end(num_ranks, schedule):
    assert verify(programs_of(chain, num_ranks, 5, schedule))
