from dataclasses import replace

from funpipe import optim
from funpipe.passes import optimize
from funpipe.programs import verify
from funpipe.programs.instructions import Free, Microbatch, Reduce, Run, WaitSend, Zero
from tests.programs.edits import at, change, error_of, find, insert, move, put, remove
from tests.programs.models import chain, programs_of

PLAIN = programs_of(chain, 2, 2, optimizer=optim.sgd(0.1))
GOOD = optimize(PLAIN)


def test_the_line_at_fault_is_marked_in_the_program_around_it():
    rank, start = find(GOOD, Microbatch, rank=0)
    lines = error_of(remove(GOOD, (rank, start)))
    assert lines[0] == f"rank 0, instruction {start}: nothing makes 'batch.x@0' before this line."
    marked = [line for line in lines if line.startswith(">")]
    assert len(marked) == 1
    assert marked[0].startswith(f"> {start:5} | ")
    assert " = run F0 0 (param.b0 param.w0 batch.x@0)  <-- batch.x@0 is not there" in marked[0]
    assert len(lines) == 2 + 6
    assert lines[-1] == "Make or receive it before this line, or name it as an input of the program."


def test_a_value_read_before_it_is_made():
    place = find(GOOD, Zero, rank=0, writes=("acc.b0.0",))
    moved = move(GOOD, place, (0, len(GOOD.programs[0].instructions)))
    assert "nothing makes 'acc.b0.0' before this line." in error_of(moved)[0]


def test_a_parameter_that_the_rank_does_not_hold():
    place = find(GOOD, Run, rank=0)
    reads = ("param.w3", *at(GOOD, place).reads[1:])
    assert "nothing makes 'param.w3' before this line." in error_of(change(GOOD, place, reads=reads))[0]


def test_a_value_read_after_it_is_freed():
    rank, start = find(PLAIN, Run, rank=0, region="B0", microbatch=1)
    lines = error_of(insert(PLAIN, (rank, start), Free(("batch.x@1",))))
    assert lines[0] == f"rank 0, instruction {start + 1}: 'batch.x@1' was freed by instruction {start}."
    assert lines[-1] == "Free it after this line."


def test_the_wait_of_a_send_is_a_use():
    place = find(PLAIN, WaitSend, rank=0)
    value = at(PLAIN, place).value
    lines = error_of(insert(PLAIN, place, Free((value,))))
    assert lines[0] == f"rank 0, instruction {place[1] + 1}: {value!r} was freed by instruction {place[1]}."


def test_a_value_freed_twice():
    place = find(GOOD, Free, rank=0)
    text = error_of(insert(GOOD, place, at(GOOD, place)))
    assert f"was already freed, by instruction {place[1]}." in text[0]
    assert text[-1] == "Free each value once."


def test_a_value_freed_that_was_never_there():
    assert "nothing makes 'h@9' before this line." in error_of(insert(GOOD, (0, 5), Free(("h@9",))))[0]


def test_a_value_that_is_never_freed():
    place = find(GOOD, Free, rank=1)
    left = min(at(GOOD, place).values)
    text = error_of(remove(GOOD, place))
    assert f"{left!r} is never freed, while other values are." in text[0]
    assert any("(end)  <-- " in line for line in text)
    assert text[-1] == "Free it after its last use."


def test_programs_that_free_nothing_are_good():
    verify(PLAIN)


def test_inputs_and_results_are_not_freed():
    end = (1, len(GOOD.programs[1].instructions))
    for name in ("bucket.s1_float32", "result.loss"):
        text = error_of(insert(GOOD, end, Free((name,))))
        assert f"{name!r} is an input or a result of the program, and belongs to the caller." in text[0]


def test_a_value_made_twice():
    place = find(GOOD, Zero, rank=0)
    assert "'acc.b0.0' was already made." in error_of(insert(GOOD, place, at(GOOD, place)))[0]


def test_a_result_that_nothing_makes():
    text = error_of(remove(PLAIN, find(PLAIN, Reduce)))
    assert "the result 'loss' is 'result.loss', which nothing makes." in text[0]


def test_a_value_without_a_type():
    place = find(GOOD, Zero, rank=0)
    text = error_of(put(GOOD, place, Zero(("acc.other.0",)), at(GOOD, place)))
    assert "'acc.other.0' has no type." in text[0]


def test_a_missing_input():
    first, *rest = GOOD.programs
    without = replace(first, inputs=tuple(n for n in first.inputs if n != "batch.x"))
    text = error_of(replace(GOOD, programs=(without, *rest)))
    assert "nothing makes 'batch.x' before this line." in text[0]
