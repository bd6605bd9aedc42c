import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.schedules import Communication, GPipe, OneFOneB, Overlap, Table, Task, simulate
from funpipe.schedules.codes import unpack
from tests.schedules.plain import Plain, questions
from tests.schedules.tables import tables


@given(questions())
def test_simulation_is_the_plain_one(question):
    table, cost, FB, communication = question
    sim = simulate(table, **cost, FB=FB, communication=communication)
    plain = Plain(table, cost, FB, communication)
    for found, expected in ((sim.start, plain.start), (sim.end, plain.end), (sim.arrival, plain.arrival)):
        assert tasks_at(table, found) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert sim.makespan == pytest.approx(plain.makespan)
    assert sim.busy == pytest.approx(plain.busy)
    assert sim.bubble == sim.makespan - max(sim.busy)


def tasks_at(table, grid):
    """The numbers of a grid by task, where there are any."""
    cells = [(rank, slot) for rank, slot in np.ndindex(grid.shape) if not math.isnan(grid[rank, slot])]
    return {unpack(table.cells[at], table.num_microbatches): grid[at] for at in cells}


@settings(max_examples=40)
@given(questions(), st.floats(0, 10), st.booleans())
def test_scaling_all_times_scales_the_makespan(question, factor, overlap):
    table, cost, FB, _ = question
    slow = {kind: [factor * time for time in some] for kind, some in cost.items()}
    one = simulate(table, **cost, FB=FB, communication=Communication(1.0, bytes=1.0, bandwidth=2.0, overlap=overlap))
    communication = Communication(factor, bytes=factor, bandwidth=2.0, overlap=overlap)
    two = simulate(table, **slow, FB=FB and [factor * time for time in FB], communication=communication)
    assert two.makespan == pytest.approx(factor * one.makespan)
    assert np.array(two.idle.input) == pytest.approx(factor * np.array(one.idle.input), abs=1e-9)


@settings(max_examples=40)
@given(questions(), st.sampled_from(["latency", "bytes", "bytes_back"]))
def test_more_communication_is_never_faster(question, more):
    table, cost, FB, communication = question
    slower = replace(communication, **{more: [2 * number + 1 for number in getattr(communication, more)]})
    now, then = (simulate(table, **cost, FB=FB, communication=c).makespan for c in (communication, slower))
    assert then >= now - 1e-9


@settings(max_examples=40)
@given(questions())
def test_a_rank_needs_at_least_the_time_of_its_work(question):
    table, cost, FB, communication = question
    sim = simulate(table, **cost, FB=FB, communication=communication)
    assert sim.makespan >= max(sim.busy) - 1e-9
    tasks = sim.end - sim.start
    if not table.has_overlaps:
        assert np.nansum(tasks, axis=1) == pytest.approx(np.array(sim.busy))


@settings(max_examples=40)
@given(questions(), st.data())
def test_how_a_table_is_drawn_changes_nothing(question, data):
    """Without its idle cells, with others, and in the columns in which it runs."""
    table, cost, FB, communication = question
    drawn = redrawn(table, data.draw)
    before = simulate(table, **cost, FB=FB, communication=communication)
    after = simulate(drawn, **cost, FB=FB, communication=communication)
    assert tasks_at(table, before.start) == tasks_at(drawn, after.start)
    assert (before.makespan, before.idle, before.memory.peak) == (after.makespan, after.idle, after.memory.peak)


def redrawn(table, draw):
    rows = [[cell for item in table.order(r) for cell in (*gap(draw), item)] for r in range(table.num_ranks)]
    return Table.from_rows(rows, placement=table.placement, num_microbatches=table.num_microbatches)


def gap(draw):
    return [None] * draw(st.integers(0, 2))


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
        ({"W": -1.0}, "W=-1.0; pass numbers that are finite and not negative"),
        ({"I": float("nan")}, "I=nan; pass numbers"),
        ({"latency": float("inf")}, "latency=inf; pass numbers"),
        ({"latency": [1.0, 2.0]}, r"latency has shape \(2,\); pass one number, or 1, one for each boundary"),
        ({"FB": [1.0]}, r"FB has shape \(1,\); pass one number, or 2, one for each rank"),
        ({"FB": -1.0}, "FB=-1.0; pass numbers"),
        ({"latency": 1.0, "communication": Communication()}, r"latency=1.0 beside Communication.*latency=\.\.\.\)"),
    ],
)
def test_bad_times_are_named(times, message):
    with pytest.raises(ScheduleError, match=message):
        simulate(GPipe().table(2, 2), **times)


@pytest.mark.parametrize(("name", "kind"), [("memory", "Memory"), ("communication", "Communication")])
def test_a_number_is_neither_memory_nor_communication(name, kind):
    with pytest.raises(FunpipeTypeError, match=rf"{name} is a float; pass a {kind}, {name}=fp\.schedules\.{kind}\("):
        simulate(GPipe().table(2, 2), **{name: 8e9})


def test_a_table_that_cannot_run_is_refused():
    with pytest.raises(ScheduleError, match="never runs"):
        simulate(Table.from_rows([[Task("F", 0, 0), Task("I", 0, 0)]], placement=(0,), num_microbatches=1))


def pair(m=2):
    """Two stages on one rank: the second one's backward of a microbatch runs with the first one's next forward."""
    f, g, w = Task("F", 0, 0), Task("F", 1, 0), Task("B", 1, 0)
    rest = [Task("B", 0, 0), Task("F", 1, 1), Task("B", 1, 1), Task("B", 0, 1)]
    return Table.from_rows([[f, g, Overlap(Task("F", 0, 1), w), *rest]], placement=(0, 0), num_microbatches=m)


def test_two_tasks_that_run_together_take_the_sum_unless_told():
    assert simulate(pair(), F=1.0, B=2.0).makespan == 12.0
    sim = simulate(pair(), F=1.0, B=2.0, FB=2.5)
    assert sim.makespan == 11.5
    assert (sim.start[0, 2:4].tolist(), sim.end[0, 2:4].tolist()) == ([2.0, 2.0], [4.5, 4.5])
    assert (sim.busy, sim.bubble) == ((11.5,), 0.0)


def test_an_inference_has_forwards_only():
    rows = [[Task("F", stage, i) for i in range(3)] for stage in range(2)]
    sim = simulate(Table.from_rows(rows, placement=(0, 1), num_microbatches=3), F=2.0)
    assert sim.makespan == 4 * 2.0
    assert sim.peak_activations == (1, 1)


def test_a_large_table_is_simulated_in_no_time():
    """A rank's row has 1,534 columns; a Python loop over the tasks would take several times as long."""
    table = OneFOneB().table(256, 512)
    start = time.process_time()
    simulate(table, communication=Communication(0.1, bytes=1.0, bandwidth=2.0))
    assert time.process_time() - start < 2.0
