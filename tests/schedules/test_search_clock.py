from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.schedules import check, simulate
from funpipe.schedules.search_clock import Found, tails, timing
from funpipe.schedules.search_graph import graph_of
from funpipe.schedules.search_greedy import run
from funpipe.schedules.search_rows import rows_of, table_of
from tests.schedules.asking import problem_of, problems
from tests.schedules.test_search_greedy import RULES


@given(problems(), RULES)
@settings(max_examples=50)
def test_the_times_are_those_of_the_simulation(problem, rule):
    graph = graph_of(problem)
    rows = run(graph, rule)
    times = timing(graph, rows)
    assert times is not None
    table = table_of(Found(graph, rows, times))
    sim = problem.simulate(table)
    assert abs(times.makespan - sim.makespan) < 1e-9
    assert rows_of(graph, table) == rows


@given(problems(), RULES)
@settings(max_examples=50)
def test_end_and_tail_are_within_the_makespan_and_reach_it_on_a_chain(problem, rule):
    graph = graph_of(problem)
    rows = run(graph, rule)
    times = timing(graph, rows)
    assert times is not None
    tail = tails(graph, rows, times.order)
    through = [times.end[number] + tail[number] for number in times.order]
    assert max(through) <= times.makespan + 1e-9
    first, last = times.order[0], max(times.order, key=lambda number: times.end[number])
    assert tail[last] == 0
    starts = [n for n in times.order if times.end[n] - graph.duration[n] < 1e-9]
    assert first in starts
    assert max(times.end[n] + tail[n] for n in starts) > times.makespan - 1e-9


def test_a_deadlock_has_no_times():
    graph = graph_of(problem_of((0, 1), 1))
    assert timing(graph, [[0, 1, 2], [4, 3, 5]]) is None
    assert timing(graph, [[0, 1, 2], [3, 4, 5]]) is not None


@given(st.data(), problems(most_stages=3))
@settings(max_examples=30)
def test_a_b_reads_as_i_and_w(data, problem):
    graph = graph_of(problem)
    rule = data.draw(RULES)
    rows = run(graph, rule)
    times = timing(graph, rows)
    assert times is not None
    table = table_of(Found(graph, rows, times))
    check(table)
    again = rows_of(graph, table)
    assert [sorted(row) for row in again] == [sorted(row) for row in rows]
    assert simulate(table).makespan > 0
