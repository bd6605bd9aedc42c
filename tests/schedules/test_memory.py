import pytest
from hypothesis import given, settings

from funpipe._errors import ScheduleError
from funpipe.schedules import DualPipeV, GPipe, Memory, Table, Task, memory, simulate
from tests.schedules.plain import paired_tables


@settings(max_examples=40)
@given(paired_tables())
def test_by_default_memory_is_in_activations(table):
    sim = simulate(table)
    assert sim.memory.peak == sim.peak_activations
    assert set(sim.memory.static) == {0.0}


def test_an_inference_holds_one_activation_at_a_time():
    rows = [[Task("F", 0, i) for i in range(4)]]
    table = Table.from_rows(rows, placement=(0,), num_microbatches=4)
    assert simulate(table, memory=Memory(2.0)).memory.peak == (2.0,)


@pytest.mark.parametrize("name", ["activations", "for_weights", "static", "working"])
def test_bad_amounts_are_named(name):
    with pytest.raises(ScheduleError, match=rf"{name} has shape \(3,\); pass one number, or 2, one for each stage"):
        simulate(GPipe().table(2, 2), memory=Memory(**{name: [1.0] * 3}))
    with pytest.raises(ScheduleError, match=f"{name}=-1.0; pass numbers that are finite and not negative"):
        simulate(GPipe().table(2, 2), memory=Memory(**{name: -1.0}))


def test_large_tables_are_worked_out_some_ranks_at_a_time(monkeypatch):
    table = DualPipeV().table(4, 9)
    whole = simulate(table, memory=Memory(range(8), working=1.0)).memory.peak
    for cells in (1, 2 * table.num_slots, 3 * table.num_slots + 1):
        monkeypatch.setattr(memory, "CELLS_AT_ONCE", cells)
        assert simulate(table, memory=Memory(range(8), working=1.0)).memory.peak == whole
