from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.schedules import check
from funpipe.schedules.search_clock import Found, timing
from funpipe.schedules.search_graph import F, I, graph_of
from funpipe.schedules.search_greedy import Rule, run
from funpipe.schedules.search_rows import table_of
from tests.schedules.asking import problem_of, problems

ORDERS = st.permutations([(kind, chunk) for kind in (F, I) for chunk in range(6)]).map(tuple)
RULES = st.builds(
    Rule,
    ORDERS,
    st.sampled_from([0.0, 0.5, 2.0]),
    st.none() | st.integers(1, 4),
    st.sampled_from([0.0, 0.7, 3.0]),
)
FORWARD_FIRST, BACKWARD_FIRST = ((F, 0), (I, 0)), ((I, 0), (F, 0))


def order_of(problem, rank, rule):
    graph = graph_of(problem)
    rows = run(graph, rule)
    times = timing(graph, rows)
    return " ".join(map(str, table_of(Found(graph, rows, times)).order(rank)))


@settings(max_examples=60)
@given(problems(), RULES)
def test_every_rule_ends_with_a_table_within_the_limits(problem, rule):
    graph = graph_of(problem)
    rows = run(graph, rule)
    times = timing(graph, rows)
    assert times is not None
    table = table_of(Found(graph, rows, times))
    check(table)
    assert problem.fits(problem.simulate(table).peak_activations)
    assert table.ascends("F") and table.ascends("B", "I") and table.ascends("W")


def test_backwards_first_is_one_forward_one_backward():
    problem = problem_of((0, 1), 3, W=0.0, split=False, B=1.0, limit=2)
    assert order_of(problem, 1, Rule(BACKWARD_FIRST)) == "1F0 1B0 1F1 1B1 1F2 1B2"
    assert order_of(problem, 0, Rule(BACKWARD_FIRST)) == "0F0 0F1 0B0 0F2 0B1 0B2"


def test_forwards_first_is_gpipe():
    problem = problem_of((0, 1), 3, B=2.0, split=False)
    assert order_of(problem, 1, Rule(FORWARD_FIRST)) == "1F0 1F1 1F2 1B0 1B1 1B2"


def test_a_deep_rank_waits():
    problem = problem_of((0, 1), 3, B=2.0, split=False)
    assert order_of(problem, 0, Rule(FORWARD_FIRST, depth=1)) == "0F0 0B0 0F1 0B1 0F2 0B2"


def test_patience_lets_a_gradient_go_before_a_w():
    problem = replace(problem_of((0, 1), 2), I=(1.0, 1.5))  # the second gradient comes half a unit after the first I
    assert order_of(problem, 0, Rule(FORWARD_FIRST, patience=0.4)) == "0F0 0F1 0I0 0W0 0I1 0W1"
    assert order_of(problem, 0, Rule(FORWARD_FIRST, patience=0.6)) == "0F0 0F1 0I0 0I1 0W0 0W1"


def test_pace_spreads_what_enters():
    graph = graph_of(problem_of((0, 1), 3))
    times = [timing(graph, run(graph, Rule(FORWARD_FIRST, 0.0, pace=pace))) for pace in (0.0, 1.0)]
    rows = [run(graph, Rule(FORWARD_FIRST, 0.0, pace=pace))[0] for pace in (0.0, 1.0)]
    assert all(time is not None for time in times)
    assert [row[:3] for row in rows] == [[0, 3, 6], [0, 3, 1]]
