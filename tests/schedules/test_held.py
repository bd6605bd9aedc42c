import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, Memory, OneFOneB, Table, Task, simulate
from tests.schedules.plain import paired_tables, parts

amounts = st.floats(0, 10)


@st.composite
def memories(draw, num_stages):
    each = st.lists(amounts, min_size=num_stages, max_size=num_stages)
    kept = draw(st.one_of(st.none(), each))
    return Memory(activations=draw(each), for_weights=kept, static=draw(each), working=draw(each))


def plain_amounts(table, memory, rank):
    """What the rank holds after the start and after the end of each task, or of two that run together."""
    here = [s for s, r in enumerate(table.placement) if r == rank]
    held, seen = sum(memory.static[s] for s in here), []
    for tasks in map(parts, table.order(rank)):
        before = held
        held += sum(change(memory, task) for task in tasks)
        up = sum(max(0.0, change(memory, task)) + memory.working[task.stage] for task in tasks)
        seen += [before + up, held]
    return seen


def change(memory, task):
    held = memory.activations[task.stage]
    kept = held if memory.for_weights is None else memory.for_weights[task.stage]
    return {"F": held, "B": -held, "I": kept - held, "W": -kept}[task.kind]


@given(st.data(), paired_tables())
def test_the_curve_is_the_plain_one(data, table):
    memory = data.draw(memories(table.num_stages))
    sim = simulate(table, memory=memory)
    for rank in range(table.num_ranks):
        times, held = sim.memory.curve(rank)
        plain = plain_amounts(table, memory, rank)
        assert times.shape == held.shape == (1 + len(plain),)
        assert held[1:] == pytest.approx(plain, abs=1e-9)
        assert sim.memory.peak[rank] == pytest.approx(max(plain))
        assert (np.diff(times) >= 0).all()


@settings(max_examples=40)
@given(st.data(), paired_tables())
def test_memory_is_never_below_the_static_part_and_ends_at_it(data, table):
    sim = simulate(table, memory=data.draw(memories(table.num_stages)))
    for rank, static in enumerate(sim.memory.static):
        times, held = sim.memory.curve(rank)
        assert (held >= static - 1e-9).all()
        assert held[0] == static
        assert held[-1] == pytest.approx(static, abs=1e-9)
        assert times[0] == 0.0
        assert times[-1] == pytest.approx(np.nanmax(sim.end[rank]))


# Rank 0 of 1F1B with 2 ranks, 2 microbatches:  0F0 0F1 . 0B0 . 0B1, B twice as long.
def test_a_curve_by_hand():
    memory = Memory(activations=[3.0, 1.0], static=[10.0, 20.0], working=0.5)
    times, held = simulate(OneFOneB().table(2, 2), memory=memory).memory.curve(0)
    assert times.tolist() == [0.0, 0.0, 1.0, 1.0, 2.0, 4.0, 6.0, 7.0, 9.0]
    assert held.tolist() == [10.0, 13.5, 13.0, 16.5, 16.0, 16.5, 13.0, 13.5, 10.0]


def test_a_split_backward_holds_until_w_what_w_needs():
    rows = [[Task(kind, 0, 0) for kind in ("F", "I", "W")]]
    table = Table.from_rows(rows, placement=(0,), num_microbatches=1)
    assert simulate(table, memory=Memory(8.0)).memory.curve(0)[1].tolist() == [0.0, 8.0, 8.0, 8.0, 8.0, 8.0, 0.0]
    less = simulate(table, memory=Memory(8.0, for_weights=5.0)).memory.curve(0)[1]
    assert less.tolist() == [0.0, 8.0, 8.0, 8.0, 5.0, 5.0, 0.0]
    more = simulate(table, memory=Memory(8.0, for_weights=9.0)).memory.curve(0)[1]
    assert more.tolist() == [0.0, 8.0, 8.0, 9.0, 9.0, 9.0, 0.0]


def test_static_memory_of_all_stages_of_a_rank_adds_up():
    rows = [[Task(kind, stage, 0) for kind, stage in (("F", 0), ("F", 1), ("B", 1), ("B", 0))]]
    table = Table.from_rows(rows, placement=(0, 0), num_microbatches=1)
    assert simulate(table, memory=Memory(static=[1.0, 2.0])).memory.static == (3.0,)


def test_it_prints_shortly():
    assert repr(simulate(GPipe().table(2, 2)).memory) == "Held(static=(0.0, 0.0), peak=(2.0, 2.0))"


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_is_not_there_is_named(rank):
    with pytest.raises(ScheduleError, match=f"there is no rank {rank}; use one from 0 to 1"):
        simulate(GPipe().table(2, 2)).memory.curve(rank)
