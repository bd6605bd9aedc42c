from funpipe import optim
from funpipe.passes import optimize
from funpipe.programs.instructions import Accumulate, Send, Update, WaitSend
from tests.programs.edits import at, error_of, find, insert, move, remove
from tests.programs.models import programs_of, tied

GOOD = optimize(programs_of(tied, 2, 2, optimizer=optim.sgd(0.1)))
"""Rank 1 sends its accumulators of the words to rank 0, which sends the new words back."""


def sends(prefix):
    return next(find(GOOD, Send, message=m.id) for m in GOOD.messages if f"value {prefix}" in m.label)


def test_an_accumulator_is_not_changed_while_it_is_sent():
    rank, start = sends("acc.words")
    value = at(GOOD, (rank, start)).value
    _, end = find(GOOD, Accumulate, rank=rank, number=1)
    early = move(GOOD, (rank, start), (rank, end))
    text = error_of(early)
    assert f"{value!r} is overwritten while message" in text[0]
    assert text[-1].startswith("Put wait_send ")


def test_parameters_are_not_updated_while_they_are_sent():
    place = sends("param.words")
    text = error_of(move(GOOD, place, find(GOOD, Update, rank=place[0])))
    assert "'bucket.s0_float32' is overwritten while message" in text[0]
    assert "<-- overwrites what is being sent" in "\n".join(text)


def test_the_wait_ends_it():
    place = sends("param.words")
    wait = at(GOOD, find(GOOD, WaitSend, message=at(GOOD, place).message))
    moved = move(remove(GOOD, find(GOOD, WaitSend, message=wait.message)), place, find(GOOD, Update, rank=0))
    text = error_of(insert(moved, find(moved, Update, rank=0), wait))
    assert "is overwritten" not in text[0]
