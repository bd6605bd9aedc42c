from dataclasses import replace

import pytest

from funpipe.passes import optimize
from funpipe.programs import verify
from funpipe.programs.instructions import PostRecv, Send, WaitRecv, WaitSend
from funpipe.schedules import GPipe
from tests.programs.edits import at, change, error_of, exchange, find, insert, move, remove
from tests.programs.models import chain, programs_of, skipping

GOOD = programs_of(chain, 2, 2, GPipe())


@pytest.mark.parametrize(
    ("kind", "word", "rank"), [(Send, "send", 0), (WaitSend, "wait_send", 0), (PostRecv, "post_recv", 1)]
)
def test_a_part_of_a_message_that_is_missing(kind, word, rank):
    lines = error_of(remove(GOOD, find(GOOD, kind, rank=rank)))
    assert lines[0].endswith(f"({GOOD.messages[0].label}) has no {word} on rank {rank}.")
    assert f"(end)  <-- no {word} 0" in "\n".join(lines)
    assert lines[-1] == f"Add the {word}."


def test_a_message_that_never_arrives():
    assert "nothing makes" in error_of(remove(GOOD, find(GOOD, WaitRecv)))[0]


def test_a_part_done_twice():
    place = find(GOOD, Send)
    text = error_of(insert(GOOD, place, at(GOOD, place)))
    assert f"already has a send, instruction {place[1]}." in text[0]
    assert text[-1] == "Remove one of the two."


def test_an_unknown_message():
    assert "there is no message 99." in error_of(change(GOOD, find(GOOD, Send), message=99))[0]


def test_a_send_on_the_wrong_rank():
    place = find(GOOD, Send, rank=0)
    back = at(GOOD, find(GOOD, Send, rank=1)).message
    text = error_of(change(GOOD, place, message=back))
    assert "goes from rank 1 to rank 0." in text[0]
    assert text[-1] == "Move this send to rank 1."


def test_a_receive_waited_for_before_it_is_posted():
    place = find(GOOD, PostRecv, rank=1)
    text = error_of(exchange(GOOD, place, (1, place[1] + 1)))
    assert f"is waited for before its post_recv, instruction {place[1] + 1}." in text[0]


def test_a_send_waited_for_before_it_is_sent():
    place = find(GOOD, WaitSend, rank=0)
    send = find(GOOD, Send, rank=0)
    assert "is waited for before its send" in error_of(move(GOOD, place, send))[0]


def test_a_message_of_another_type():
    message = GOOD.messages[0]
    wrong = replace(message, type=replace(message.type, shape=(2, 3)))
    text = error_of(replace(GOOD, messages=(wrong, *GOOD.messages[1:])))
    assert "carries float32[2,3], and" in text[0]
    assert text[-1] == "Give both the same type."


def test_messages_whose_values_are_crossed():
    one, other = (find(GOOD, WaitRecv, rank=1, number=n) for n in range(2))
    values = [at(GOOD, place).value for place in (one, other)]
    crossed = programs_of(chain, 2, 2, GPipe())
    crossed = change(change(crossed, one, value=values[1]), other, value=values[0])
    late = error_of(crossed)
    assert "nothing makes" in late[0]


def test_two_sends_whose_values_are_crossed():
    one, other = (find(GOOD, Send, rank=0, number=n) for n in range(2))
    edited = move(GOOD, one, (0, other[1] + 1))
    one, other = (find(edited, Send, rank=0, message=n) for n in range(2))
    values = [at(GOOD, find(GOOD, Send, rank=0, message=n)).value for n in range(2)]
    edited = change(change(edited, one, value=values[1]), other, value=values[0])
    text = error_of(edited)
    assert f"sends {values[1]!r}, and this line names {values[0]!r}." in text[0]


def test_a_wait_for_another_value():
    one, other = (find(GOOD, WaitSend, rank=0, number=n) for n in range(2))
    edited = change(GOOD, one, value=at(GOOD, other).value)
    assert "and this line names" in error_of(edited)[0]


def test_two_sends_exchanged_on_an_edge():
    plan = programs_of(chain, 2, 2, GPipe())
    first, second = (find(plan, Send, rank=0, number=n) for n in range(2))
    late = move(plan, first, (0, second[1] + 1))
    text = error_of(late)
    assert "message 0 (0->1 mb 0" in text[0]
    assert "is received where rank 0 sends message 1 (0->1 mb 1" in text[0]
    assert text[-1] == "Put the post_recvs of an edge in the order of its sends."


def test_lowering_leaves_the_order_of_skipping_values_to_the_passes():
    plan = programs_of(skipping, 3, 3, GPipe())
    assert verify(optimize(plan))
