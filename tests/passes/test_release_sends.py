import pytest

from funpipe.passes import early_receives, release_sends
from funpipe.programs import verify
from funpipe.programs.instructions import PostRecv, Run, Send, WaitRecv, WaitSend
from funpipe.schedules import GPipe, OneFOneB, forward_only
from tests.programs.models import MODELS, chain, programs_of

SCHEDULES = [GPipe(), OneFOneB()]


def released(loss_fn=chain, num_ranks=2, count=4, schedule=None):
    return release_sends(early_receives(programs_of(loss_fn, num_ranks, count, schedule)))


def positions(program, kind):
    return {i.message: n for n, i in enumerate(program.instructions) if isinstance(i, kind)}


@pytest.mark.parametrize("loss_fn", MODELS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
def test_programs_stay_good(loss_fn, num_ranks, schedule):
    assert verify(released(loss_fn, num_ranks, 4, schedule))


def test_sends_are_let_go_while_the_rank_still_computes():
    for program in released().programs:
        last = max(n for n, i in enumerate(program.instructions) if isinstance(i, Run))
        waits = positions(program, WaitSend)
        assert sum(n < last for n in waits.values()) >= len(waits) - 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_a_wait_cannot_block(num_ranks, schedule):
    """Before a wait stands a message that its peer sent after posting; no earlier one behind the send did."""
    programs = released(chain, num_ranks, 4, schedule)
    for program in programs.programs:
        arrivals = [(n, i.message) for n, i in enumerate(program.instructions) if isinstance(i, WaitRecv)]
        end = max((n for n, i in enumerate(program.instructions) if not isinstance(i, WaitSend)), default=0)
        for message, at in positions(program, WaitSend).items():
            peer = programs.programs[programs.messages[message].dst]
            posted = positions(peer, PostRecv)[message]
            sent = positions(program, Send)[message]
            vouching = [n for n, m in arrivals if n > sent and positions(peer, Send).get(m, -1) > posted]
            assert at > end if not vouching else vouching[0] < at <= min([*vouching[1:], at])
            assert all(isinstance(i, WaitSend) for i in program.instructions[(vouching or [at])[0] + 1 : at])


def test_without_messages_back_waits_stay_at_the_end():
    plan = early_receives(programs_of(chain, 2, schedule=forward_only(GPipe().table(2, 3))))
    assert release_sends(plan).as_text() == plan.as_text()


def test_a_second_time_changes_nothing():
    once = released()
    assert release_sends(once).as_text() == once.as_text()


def test_each_send_is_still_waited_for_once():
    for program in released(chain, 4).programs:
        assert positions(program, WaitSend).keys() == positions(program, Send).keys()
        assert sum(isinstance(i, WaitSend) for i in program.instructions) == len(positions(program, Send))
