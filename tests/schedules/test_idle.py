import numpy as np
import pytest
from hypothesis import given

from funpipe.schedules import Communication, GPipe, OneFOneB, Table, Task, simulate
from tests.schedules.plain import Plain, questions

CAUSES = ("fill", "input", "communication", "drain")


@given(questions())
def test_the_causes_are_the_plain_ones_and_make_up_the_whole(question):
    table, cost, FB, communication = question
    sim = simulate(table, **cost, FB=FB, communication=communication)
    plain = Plain(table, cost, FB, communication)
    for cause in CAUSES:
        assert getattr(sim.idle, cause) == pytest.approx(plain.idle[cause], abs=1e-9), cause
    assert sim.idle.total == pytest.approx(sim.makespan - np.array(sim.busy), abs=1e-9)


# p = 3 ranks, m = 2 microbatches, B twice as long as F:
#
#   rank 0 | 0F0 0F1 .   .   .   .   .   .   0B0 0B0 0B1 0B1
#   rank 1 | .   1F0 1F1 .   .   .   1B0 1B0 1B1 1B1 .   .
#   rank 2 | .   .   2F0 2F1 2B0 2B0 2B1 2B1 .   .   .   .
def test_gpipe_fills_waits_and_drains():
    idle = simulate(GPipe().table(3, 2)).idle
    assert idle.fill == (0.0, 1.0, 2.0)
    assert idle.input == (6.0, 3.0, 0.0)
    assert idle.drain == (0.0, 2.0, 4.0)
    assert idle.communication == (0.0, 0.0, 0.0)


def test_a_wait_is_input_until_the_result_is_computed_and_communication_from_then_on():
    idle = simulate(GPipe().table(2, 1), F=[1.0, 2.0], B=[1.0, 3.0], latency=0.25).idle
    assert idle.fill == (0.0, 1.25)
    assert idle.input == (2.0 + 3.0 + 0.25, 0.0)
    assert idle.communication == (0.25, 0.0)
    assert idle.drain == (0.0, 0.25 + 1.0)


def test_a_message_that_came_in_time_costs_nothing():
    idle = simulate(GPipe().table(2, 4), F=[1.0, 5.0], latency=0.25).idle
    assert idle.communication[1] == idle.input[1] == 0.0


def test_what_keeps_a_rank_busy_without_work_is_communication():
    messages = Communication(latency=0.25, bytes=1.0, bytes_back=3.0, bandwidth=4.0, overlap=False)
    sim = simulate(OneFOneB().table(2, 1), communication=messages)
    assert sim.busy == (3.0, 3.0)
    assert sim.idle.communication == (0.5 + 1.0, 0.5 + 1.0)
    assert sim.idle.fill == (0.0, 1.0)
    assert sim.idle.drain == (0.0, 2.0)
    assert sim.makespan == 1.0 + 0.5 + 3.0 + 1.0 + 2.0


def test_a_free_rank_with_free_tasks_is_never_idle():
    rows = [[Task("F", 0, 0), Task("I", 0, 0), None, Task("W", 0, 0)]]
    idle = simulate(Table.from_rows(rows, placement=(0,), num_microbatches=1)).idle
    assert idle.total == (0.0,)
