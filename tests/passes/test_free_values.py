import pytest

from funpipe import optim
from funpipe.passes import early_receives, free_values, optimize
from funpipe.programs import verify
from funpipe.programs.instructions import Free, Send, WaitSend
from funpipe.schedules import GPipe, OneFOneB
from tests.programs.models import MODELS, chain, programs_of


@pytest.mark.parametrize("loss_fn", MODELS)
@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_everything_made_is_freed_but_the_results(loss_fn, num_ranks):
    programs = free_values(early_receives(programs_of(loss_fn, num_ranks, 3, optimizer=optim.sgd(0.1))))
    assert verify(programs)
    for program in programs.programs:
        made = {name for i in program.instructions for name in i.writes}
        freed = [name for i in program.instructions if isinstance(i, Free) for name in i.values]
        assert len(freed) == len(set(freed))
        assert set(freed) == made - set(program.outputs.values())


def test_a_value_goes_right_behind_its_last_use():
    (program,) = free_values(programs_of(chain, 1, 2)).programs
    for n, free in enumerate(program.instructions):
        if isinstance(free, Free):
            before = program.instructions[n - 1]
            assert set(free.values) <= {*before.reads, *before.writes}


def test_a_sent_value_lives_until_the_wait():
    program = free_values(programs_of(chain, 2, 2)).programs[0]
    for send in (i for i in program.instructions if isinstance(i, Send)):
        wait = program.instructions.index(WaitSend(send.message, send.value))
        assert send.value in program.instructions[wait + 1].values


def test_a_value_that_nothing_reads_goes_at_once():
    programs = free_values(programs_of(MODELS[3], 1, 1))
    made = {name: n for n, i in enumerate(programs.programs[0].instructions) for name in i.writes}
    read = {name for i in programs.programs[0].instructions if not isinstance(i, Free) for name in i.reads}
    for name in made.keys() - read - set(programs.programs[0].outputs.values()):
        assert name in programs.programs[0].instructions[made[name] + 1].values


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_one_f_one_b_takes_less_memory_than_gpipe(num_ranks):
    few, many = (verify(optimize(programs_of(chain, num_ranks, 16, s))).peak_memory for s in (OneFOneB(), GPipe()))
    assert all(f < m for f, m in zip(few, many, strict=True))


def extra(schedule, num_ranks, count):
    """For each rank the peak above that of a single microbatch; the batch itself does not count."""

    def peaks(number):
        plan = optimize(programs_of(chain, num_ranks, number, schedule))
        batch = [sum(plan.types[n].nbytes for n in p.inputs if n.startswith("batch.")) for p in plan.programs]
        return [p - b for p, b in zip(verify(plan).peak_memory, batch, strict=True)]

    return [many - one for many, one in zip(peaks(count), peaks(1), strict=True)]


def test_gpipe_holds_all_microbatches_and_one_f_one_b_those_in_flight():
    num_ranks, count = 4, 16
    gpipe, few = extra(GPipe(), num_ranks, count), extra(OneFOneB(), num_ranks, count)
    for rank in range(num_ranks):
        microbatch = gpipe[rank] / (count - 1)
        in_flight = 1 + few[rank] / microbatch
        assert num_ranks - rank <= in_flight < num_ranks - rank + 1
