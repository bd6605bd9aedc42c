import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import GPipe, OneFOneB, Table, Task, simulate
from tests.schedules.tables import needs, tables

times = st.floats(0, 10)


def plain_ends(table, cost, latency):
    """When each task ends, one task after the other, as soon as everything that it waits for is known."""
    left = {rank: list(table.order(rank)) for rank in range(table.num_ranks)}
    clock, ends = [0.0] * table.num_ranks, {}
    while any(left.values()):
        for rank, row in left.items():
            while row and (arrivals := arrivals_of(row[0], table, ends, latency)) is not None:
                task = row.pop(0)
                clock[rank] = ends[task] = max([clock[rank], *arrivals]) + cost[task.kind][task.stage]
    return ends


def arrivals_of(task, table, ends, latency):
    arrivals = []
    for options in needs(task, table.num_stages):
        source = next((t for t in options if t in ends), None)
        if source is None:
            return None
        far = table.placement[source.stage] != table.placement[task.stage]
        arrivals.append(ends[source] + latency * far)
    return arrivals


@given(st.data(), tables(), times)
def test_simulation_is_the_plain_one(data, table, latency):
    per_stage = st.lists(times, min_size=table.num_stages, max_size=table.num_stages)
    cost = {kind: data.draw(per_stage) for kind in "FBIW"}
    sim = simulate(table, **cost, latency=latency)
    ends = plain_ends(table, cost, latency)
    for rank, row in enumerate(table.rows):
        for slot, task in enumerate(row):
            assert math.isnan(sim.end[rank, slot]) if task is None else sim.end[rank, slot] == ends[task]
    assert sim.makespan == max(ends.values())
    assert sim.bubble == sim.makespan - max(sim.busy)


@given(tables())
def test_peak_counts_forwards_not_yet_freed(table):
    for rank, peak in enumerate(simulate(table).peak_activations):
        held, most = 0, 0
        for task in table.order(rank):
            held += {"F": 1, "B": -1, "I": 0, "W": -1}[task.kind]
            most = max(most, held)
        assert peak == most


def test_where_things_are_idle_there_is_no_time():
    sim = simulate(GPipe().table(2, 1), F=1.0, B=2.0)
    assert sim.start.tolist()[0][:1] + sim.start.tolist()[0][3:] == [0.0, 4.0]
    assert np.isnan(sim.start[0, 1:3]).all()
    assert np.isnan(sim.end[0, 1:3]).all()
    assert sim.end[1, 1:3].tolist() == [2.0, 4.0]


def test_idle_cells_are_only_drawn_and_take_no_time():
    tasks = [Task("F", 0, 0), None, None, Task("B", 0, 0)]
    table = Table.from_rows([[None, *tasks]], placement=(0,), num_microbatches=1)
    assert simulate(table).makespan == 3.0


def test_b_is_i_and_w_unless_given():
    table = GPipe().table(1, 1)
    assert simulate(table, I=2.0, W=3.0).makespan == 1 + 5
    assert simulate(table, B=4.0, I=2.0, W=3.0).makespan == 1 + 4


def test_times_may_differ_between_stages():
    sim = simulate(GPipe().table(2, 3), F=[1.0, 2.0], B=[2.0, 4.0])
    assert sim.busy == (9.0, 18.0)
    assert sim.makespan == 1 + 3 * (2 + 4) + 2
    assert sim.bubble == sim.makespan - 18.0


@pytest.mark.parametrize("p", [1, 2, 4])
def test_latency_is_paid_between_ranks_only(p):
    sim = simulate(OneFOneB().table(p, 1), latency=0.25)
    assert sim.makespan == 3 * p + 2 * (p - 1) * 0.25
    same_rank = GPipe().table(2, 1).cells.max(axis=0, keepdims=True)
    assert simulate(Table(same_rank, (0, 0), 1), latency=0.25).makespan == 6.0


def test_the_last_stage_frees_the_next_one_before_its_weights():
    tasks = [["0F0", "0B0"], ["1F0", "1I0", "1W0"]]
    rows = [[Task.parse(text) for text in row] for row in tasks]
    sim = simulate(Table.from_rows(rows, placement=(0, 1), num_microbatches=1))
    assert sim.makespan == 1 + 1 + 1 + 2
    assert sim.peak_activations == (1, 1)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"F": [1.0]}, r"F has shape \(1,\); pass one number, or 2, one for each stage"),
        ({"B": [1.0, 2.0, 3.0]}, r"B has shape \(3,\)"),
        ({"W": -1.0}, "W=-1.0; pass times that are finite and not negative"),
        ({"I": float("nan")}, "I=nan; pass times"),
        ({"latency": float("inf")}, "latency=inf; pass times"),
        ({"latency": [1.0, 2.0]}, r"latency has shape \(2,\); pass one number"),
    ],
)
def test_bad_times_are_named(times, message):
    with pytest.raises(ScheduleError, match=message):
        simulate(GPipe().table(2, 2), **times)


def test_a_table_that_cannot_run_is_refused():
    with pytest.raises(ScheduleError, match="never runs"):
        simulate(Table.from_rows([[Task("F", 0, 0)]], placement=(0,), num_microbatches=1))
