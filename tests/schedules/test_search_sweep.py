from funpipe.schedules.search_graph import F, I, graph_of
from funpipe.schedules.search_sweep import orders, sweep
from tests.schedules.asking import problem_of

V = (0, 1, 2, 2, 1, 0)


def test_orders_are_all_of_them_or_sorted():
    assert set(orders(1)) == {((F, 0), (I, 0)), ((I, 0), (F, 0))}
    assert len(set(orders(2))) == 24
    assert all(sorted(order) == [(kind, chunk) for kind in (F, I) for chunk in range(3)] for order in orders(3))


def test_what_is_found_gets_longer():
    found = sweep([graph_of(problem_of(V, 6, limit=5))], tries=80, target=0.0)
    makespans = [one.makespan for one in found]
    assert len(makespans) > 5 and makespans == sorted(set(makespans))


def test_it_stops_at_its_target_and_after_its_tries():
    graph = graph_of(problem_of(V, 6))
    assert len(sweep([graph], tries=1, target=0.0)) == len(sweep([graph], tries=99, target=1e9)) == 1


def test_placements_are_compared():
    graphs = [graph_of(problem_of(placement, 6, limit=4)) for placement in ((0, 1, 2, 0, 1, 2), V)]
    best = sweep(graphs, tries=200, target=0.0)[0]
    assert best.makespan == min(sweep([graph], tries=200, target=0.0)[0].makespan for graph in graphs)
