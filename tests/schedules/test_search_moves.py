from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.schedules import check
from funpipe.schedules.search_anneal import anneal
from funpipe.schedules.search_clock import Found, tails, timing
from funpipe.schedules.search_graph import F, I, graph_of
from funpipe.schedules.search_greedy import Rule, run
from funpipe.schedules.search_moves import Move, blocks, estimate, holding, is_allowed
from funpipe.schedules.search_rows import table_of
from tests.schedules.asking import problem_of, problems
from tests.schedules.test_search_greedy import RULES


def found_of(problem, rule) -> Found:
    graph = graph_of(problem)
    rows = run(graph, rule)
    times = timing(graph, rows)
    assert times is not None
    return Found(graph, rows, times)


@st.composite
def moves(draw):
    """Rows with a row that has two tasks, and a move in it."""
    found = found_of(draw(problems()), draw(RULES))
    rank = draw(st.integers(0, len(found.rows) - 1))
    low, high = sorted(draw(st.sets(st.integers(0, len(found.rows[rank]) - 1), min_size=2, max_size=2)))
    return found, Move(rank, low, high, draw(st.booleans()))


def moved(found: Found, move: Move) -> list[list[int]]:
    rows = [list(row) for row in found.rows]
    rows[move.rank][move.low : move.high + 1] = move.piece(rows[move.rank])
    return rows


def in_order(graph, row) -> bool:
    """Whether each stage has F, I, W of each microbatch in this order, and microbatches ascend in each."""
    place, stage = {number: at for at, number in enumerate(row)}, graph.stage
    kinds = all(place[n - 1] < at for n, at in place.items() if n % 3)
    return kinds and all(place[n - 3] < at for n, at in place.items() if n >= 3 and stage[n - 3] == stage[n])


@settings(max_examples=100)
@given(moves())
def test_a_move_is_allowed_if_the_stages_stay_in_order_and_the_limit_holds(case):
    found, move = case
    graph, row = found.graph, found.rows[move.rank]
    after = moved(found, move)[move.rank]
    fits = max(holding(graph, after)) <= graph.problem.limits[move.rank]
    assert is_allowed(graph, row, holding(graph, row), move) == (in_order(graph, after) and fits)


@settings(max_examples=50)
@given(moves())
def test_an_allowed_move_gives_a_table_or_a_deadlock(case):
    found, move = case
    row = found.rows[move.rank]
    if not is_allowed(found.graph, row, holding(found.graph, row), move):
        return
    rows = moved(found, move)
    times = timing(found.graph, rows)
    if times is not None:
        table = table_of(Found(found.graph, rows, times))
        check(table)
        assert found.graph.problem.fits(found.graph.problem.simulate(table).peak_activations)


@settings(max_examples=40)
@given(problems(), RULES)
def test_blocks_are_without_gaps_and_on_a_longest_path(problem, rule):
    found = found_of(problem, rule)
    end, tail = found.times.end, tails(found.graph, found.rows, found.times.order)
    for rank, first, last in blocks(found.graph, found.rows, found.times, tail):
        row = found.rows[rank][first : last + 1]
        assert len(row) > 1
        assert all(abs(end[n] + tail[n] - found.makespan) < 1e-6 for n in row)
        assert all(abs(end[a] + found.graph.duration[b] - end[b]) < 1e-6 for a, b in zip(row, row[1:], strict=False))


@settings(max_examples=50)
@given(moves())
def test_the_estimate_of_two_neighbours_is_not_above_what_comes_of_it(case):
    """Two that are next to each other leave no other path between them that could come back."""
    found, move = case
    move = Move(move.rank, move.low, move.low + 1, move.later)
    row = found.rows[move.rank]
    if not is_allowed(found.graph, row, holding(found.graph, row), move):
        return
    tail = tails(found.graph, found.rows, found.times.order)
    about = estimate(found.graph, row, move, found.times, tail)
    times = timing(found.graph, moved(found, move))
    assert times is None or about <= times.makespan + 1e-9


def test_the_estimate_is_the_makespan_where_everything_is_in_one_row():
    found = found_of(problem_of((0,), 3), Rule(((F, 0), (I, 0))))
    tail = tails(found.graph, found.rows, found.times.order)
    move = Move(0, 1, 3, later=False)
    assert estimate(found.graph, found.rows[0], move, found.times, tail) == found.makespan == 9


def test_a_move_that_ends_a_wait_is_seen_to_be_shorter():
    """W in the way of a gradient that the other rank waits for."""
    graph = graph_of(problem_of((0, 1), 2, W=4.0))
    rows = [[0, 3, 1, 4, 2, 5], [6, 7, 8, 9, 10, 11]]
    times = timing(graph, rows)
    assert times is not None
    tail = tails(graph, rows, times.order)
    assert (1, 1, 4) in [(rank, max(first, 1), last) for rank, first, last in blocks(graph, rows, times, tail)]
    move = Move(1, 2, 4, later=True)
    after = timing(graph, moved(Found(graph, rows, times), move))
    assert after is not None
    assert estimate(graph, rows[1], move, times, tail) == after.makespan < times.makespan


@settings(max_examples=30, deadline=None)
@given(problems(), RULES, st.integers(0, 2**32))
def test_moves_never_leave_something_longer_or_beyond_the_limits(problem, rule, seed):
    found = found_of(problem, rule)
    better = anneal(found, tries=30, target=0.0, random=Random(seed))
    assert better.makespan <= found.makespan
    table = table_of(better)
    check(table)
    sim = problem.simulate(table)
    assert abs(sim.makespan - better.makespan) < 1e-9
    assert problem.fits(sim.peak_activations)
