from dataclasses import replace

from funpipe.passes import free_values
from funpipe.programs.instructions import Free, PostRecv, WaitRecv
from funpipe.programs.rules.memory import peak
from tests.programs.edits import find, insert
from tests.programs.models import chain, programs_of


def nbytes(programs, names):
    return sum(programs.types[n].nbytes for n in names)


def test_what_is_never_freed_stays_to_the_end():
    plan = programs_of(chain, 1, 2)
    (program,) = plan.programs
    made = [name for i in program.instructions for name in i.writes]
    most, where = peak(plan, program)
    assert most == nbytes(plan, (*program.inputs, *made))
    assert program.instructions[where].writes == ("result.loss",)


def test_parameters_are_views_and_count_once():
    plan = programs_of(chain, 1, 1)
    (program,) = plan.programs
    empty = replace(program, instructions=())
    assert peak(plan, empty) == (plan.layout.buckets[0].size * 4 + 8 + nbytes(plan, ("batch.x", "batch.y")), 0)


def test_the_peak_is_before_what_is_freed_goes():
    plan = programs_of(chain, 1, 1)
    at_end = insert(plan, (0, len(plan.programs[0].instructions)), Free(("acc.b0.0",)))
    assert peak(at_end, at_end.programs[0]) == peak(plan, plan.programs[0])


def test_a_received_value_takes_memory_from_its_post_on():
    plan = programs_of(chain, 2, 2)
    program = plan.programs[1]
    posted = replace(program, instructions=(PostRecv(0), PostRecv(1)))
    received = replace(program, instructions=(PostRecv(0), PostRecv(1), WaitRecv(1, plan_value(plan, 1))))
    assert peak(plan, posted)[0] == nbytes(plan, program.inputs) + 2 * plan.messages[0].type.nbytes
    assert peak(plan, received) == peak(plan, posted)


def plan_value(programs, message):
    return programs.programs[1].instructions[find(programs, WaitRecv, rank=1, message=message)[1]].value


def test_the_peak_is_the_sum_of_what_lives_at_its_line():
    plan = free_values(programs_of(chain, 1, 3))
    (program,) = plan.programs
    most, where = peak(plan, program)
    alive = set(program.inputs)
    for i in program.instructions[: where + 1]:
        alive |= set(i.writes)
        alive -= set(i.values) if isinstance(i, Free) else set()
    assert most == nbytes(plan, alive)
