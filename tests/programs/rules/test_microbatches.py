import pytest

from funpipe import optim
from funpipe._errors import ProgramError
from funpipe.programs import verify
from funpipe.programs.instructions import Accumulate, Flatten, Reduce, Run, Send
from funpipe.programs.rules.microbatches import microbatches
from funpipe.schedules import GPipe
from tests.programs.edits import at, change, error_of, find, insert, move, put, remove
from tests.programs.models import chain, programs_of, tied

GOOD = programs_of(chain, 1, 3, GPipe(), optimizer=optim.sgd(0.1))
TIED = programs_of(tied, 2, 3, GPipe(), optimizer=optim.sgd(0.1))


def test_a_microbatch_that_is_not_accumulated():
    lines = error_of(remove(GOOD, find(GOOD, Accumulate, number=1)))
    assert lines[0].endswith("'acc.b0.0' lacks microbatch 1.")
    assert "flatten s0_float32" in next(line for line in lines if line.startswith(">"))


def test_a_microbatch_accumulated_twice():
    place = find(GOOD, Accumulate, number=1)
    lines = error_of(insert(GOOD, place, at(GOOD, place)))
    assert "'acc.b0.0' already holds" in lines[0]
    assert lines[-1] == "Add the value of each microbatch once."


def test_the_value_of_another_leaf():
    place = find(GOOD, Accumulate, number=1)
    values = at(GOOD, place).values
    lines = error_of(change(GOOD, place, values=(values[1], values[0], *values[2:])))
    assert "does not follow it." in lines[0]


def test_accumulation_follows_the_order_of_the_runs():
    first, second = (find(GOOD, Accumulate, number=n) for n in range(2))
    late = move(GOOD, first, (0, second[1] + 1))
    lines = error_of(late)
    assert "was computed before" in lines[0]
    assert lines[-1] == "Accumulate in the order of the runs."


def test_what_is_read_is_complete():
    place = find(GOOD, Flatten)
    lines = error_of(move(GOOD, find(GOOD, Accumulate, number=2), (0, place[1] + 1)))
    assert lines[0].endswith("lacks microbatch 2.")


def test_an_accumulator_is_sent_when_it_is_complete():
    message = next(m.id for m in TIED.messages if "value acc.words" in m.label)
    place = find(TIED, Send, message=message)
    early = move(TIED, place, find(TIED, Accumulate, rank=place[0], number=2))
    with pytest.raises(ProgramError, match=r"lacks microbatch 2\."):
        microbatches(early)


def test_a_received_accumulator_takes_nothing_more():
    message = next(m for m in TIED.messages if "value acc.words" in m.label)
    name = next(w for w in message.label.split() if w.startswith("acc."))
    flatten = find(TIED, Flatten, rank=message.dst)
    other = at(TIED, find(TIED, Accumulate, rank=message.dst))
    at_words = next(n for n, a in enumerate(other.accumulators) if "words" in a)
    lines = error_of(insert(TIED, flatten, Accumulate((name,), (other.values[at_words],))))
    assert f"{name!r} is already complete" in lines[0]


def test_places_of_a_leaf_are_added_in_trace_order():
    place = find(TIED, Flatten, rank=0)
    places = tuple(tuple(reversed(p)) for p in at(TIED, place).places)
    lines = error_of(change(TIED, place, places=places))
    assert "are not those of the bucket 's0_float32', in trace order." in lines[0]


def test_a_result_combines_all_microbatches_in_order():
    place = find(GOOD, Reduce)
    values = at(GOOD, place).values
    for wrong in (values[::-1], values[:-1], (*values, values[0])):
        assert (
            "'result.loss' does not combine one value of each microbatch"
            in error_of(change(GOOD, place, values=wrong))[0]
        )


def test_runs_may_come_in_any_order_if_accumulation_follows():
    runs = [find(GOOD, Run, region="B0", microbatch=i) for i in range(2)]
    accumulates = [find(GOOD, Accumulate, number=i) for i in range(2)]
    pair = [at(GOOD, place) for place in (runs[1], accumulates[1], runs[0], accumulates[0])]
    assert runs[1][1] == runs[0][1] + 2
    edited = put(GOOD, runs[0], *pair, over=4)
    assert verify(edited)
