import timeit
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from funpipe import optim
from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.passes import early_receives, optimize
from funpipe.programs import Programs, Report, verify
from funpipe.schedules import GPipe, OneFOneB, merge
from tests.programs.edits import at, exchange, remove
from tests.programs.models import (
    MODELS,
    batch_of,
    buffers_of,
    chain,
    normalized,
    params_of,
    programs_of,
    tied,
    weighted,
)
from tests.programs.worlds import World, same_bits

CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), optim.adamw(1e-2))
CASES = {
    "gradients": lambda: (chain, None, programs_of(chain, 2, 3, GPipe())),
    "replicas": lambda: (chain, CLIPPED, programs_of(chain, 2, 2, mesh=MeshShape(2, 2), optimizer=CLIPPED)),
    "weighted": lambda: (weighted, CLIPPED, programs_of(weighted, 2, 3, mesh=MeshShape(2, 2), optimizer=CLIPPED)),
    "tied": lambda: (tied, CLIPPED, programs_of(tied, 3, 2, optimizer=CLIPPED)),
    "buffers": lambda: (normalized, None, programs_of(normalized, 2, 2, mesh=MeshShape(2, 3), mean_buffers=True)),
    "merged": lambda: (tied, CLIPPED, programs_of(tied, 3, schedule=merge(OneFOneB().table(3, 2)), optimizer=CLIPPED)),
}


@cache
def case(name):
    """A model, its optimizer, its programs before and after freeing, and what a step of them gives."""
    loss_fn, optimizer, programs = CASES[name]()
    return loss_fn, optimizer, (early_receives(programs), optimize(programs)), bits(loss_fn, optimizer, programs)


def bits(loss_fn, optimizer, programs):
    """All results and all new state of one step."""
    world = World(programs, params_of(loss_fn), optimizer, buffers_of(loss_fn))
    world.step(batch_of(programs.num_microbatches * programs.mesh.dp))
    state = {
        f"{d} {r} {n}": t for d, row in enumerate(world.state) for r, rank in enumerate(row) for n, t in rank.items()
    }
    return state | {f"{d} {n}": t for d in range(programs.mesh.dp) for n, t in world.results(d).items()}


@pytest.mark.parametrize("loss_fn", [*MODELS, normalized])
@pytest.mark.parametrize("num_stages", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", [GPipe(), OneFOneB()])
def test_lowered_and_optimized_programs_pass(loss_fn, num_stages, schedule):
    report = verify(optimize(programs_of(loss_fn, num_stages, 3, schedule)))
    assert isinstance(report, Report)
    assert len(report.peak_memory) == len(report.peak_at) == num_stages


@pytest.mark.parametrize("name", CASES)
@given(st.data())
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_one_edit_is_caught_or_computes_the_same_bits(name, data):
    loss_fn, optimizer, plans, wanted = case(name)
    edited = one_edit(data.draw, data.draw(st.sampled_from(plans)))
    try:
        verify(edited)
    except ProgramError:
        return
    assert same_bits(bits(loss_fn, optimizer, edited), wanted)


def one_edit(draw, programs: Programs) -> Programs:
    """One instruction taken out, or exchanged with the next."""
    rank = draw(st.integers(0, len(programs.programs) - 1))
    place = (rank, draw(st.integers(0, len(programs.programs[rank].instructions) - 2)))
    if draw(st.booleans()):
        return remove(programs, place)
    return exchange(programs, place, (rank, place[1] + 1))


def test_every_deletion_is_caught():
    _, _, (plan, _), _ = case("tied")
    for program in plan.programs:
        for number in range(len(program.instructions)):
            place = (program.rank, number)
            with pytest.raises(ProgramError) as error:
                verify(remove(plan, place))
            text = str(error.value)
            assert "\n>" in text, at(plan, place)
            assert text.rstrip().endswith("."), at(plan, place)


def test_verifying_takes_time_linear_in_the_instructions():
    def seconds(count):
        plan = early_receives(programs_of(chain, 4, count))
        return min(timeit.repeat(lambda: verify(plan), number=1, repeat=5))

    assert seconds(512) < 8 * 32 * seconds(16)  # squares would take 32 * 32 times as long
