"""Tries many rules: first the orders, and then with the best of them how patient, how steady and how deep they are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations

from funpipe.schedules.search_clock import Found, timing
from funpipe.schedules.search_graph import F, Graph, I
from funpipe.schedules.search_greedy import Rule, run

PATIENCE = (0.0, 1.0)
PACES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
DEPTHS = 8
"""How many depths are tried."""

BEST = 6
"""The rules that are tried with another patience, pace and depth."""

Tried = tuple[Found, Rule]


def sweep(graphs: Sequence[Graph], *, tries: int, target: float) -> list[Found]:
    """The rows of all rules that were tried, the shortest first; of those with one makespan, one.

    Args:
        graphs: the tasks, of one or of several placements.
        tries: how many rules to try at most; one is tried in any case.
        target: a makespan at which to stop.

    Returns:
        At least one; each within the limits.
    """
    first = [(graph, Rule(order)) for graph in graphs for order in orders(_chunks(graph))]
    tried = _try(first[: max(1, tries)], target)
    for vary in (_patience, _pace, _depth):
        best = [(found.graph, rule) for found, rule in tried[:BEST]]
        others = [(graph, other) for graph, rule in best for other in vary(graph, rule)]
        tried = _try(others[: max(0, tries - len(tried))], target, tried)
    found = {found.makespan: found for found, _ in reversed(tried)}
    return [found[makespan] for makespan in sorted(found)]


def orders(chunks: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """The orders of F and I of a rank's stages: all of them up to two stages, then those that are sorted by a rule.

    Args:
        chunks: how many stages a rank has.

    Example:
        >>> len(list(orders(1))), len(list(orders(2))), len(list(orders(4)))
        (2, 24, 8)
    """
    if chunks <= 2:
        yield from permutations([(kind, chunk) for chunk in range(chunks) for kind in (F, I)])
        return
    up, down = range(chunks), range(chunks - 1, -1, -1)
    for forwards in (up, down):
        for backwards in (up, down):
            f, i = tuple((F, chunk) for chunk in forwards), tuple((I, chunk) for chunk in backwards)
            yield from (f + i, i + f)


def _chunks(graph: Graph) -> int:
    return max(map(len, graph.problem.stages_of))


def _patience(_: Graph, rule: Rule) -> Iterator[Rule]:
    return (replace(rule, patience=patience) for patience in PATIENCE)


def _pace(_: Graph, rule: Rule) -> Iterator[Rule]:
    return (replace(rule, pace=pace) for pace in PACES)


def _depth(graph: Graph, rule: Rule) -> Iterator[Rule]:
    problem = graph.problem
    most = min(max(problem.limits), problem.num_microbatches, 3 * problem.num_ranks)  # deeper than that limits nothing
    depths = sorted({max(1, round(most * part / DEPTHS)) for part in range(1, DEPTHS + 1)})
    return (replace(rule, depth=depth) for depth in depths)


def _try(rules: Iterable[tuple[Graph, Rule]], target: float, before: Sequence[Tried] = ()) -> list[Tried]:
    """What rules make, beside what is there already, the shortest first."""
    tried = list(before)
    for graph, rule in rules:
        if tried and min(tried[0][0].makespan, tried[-1][0].makespan) <= target:
            break
        rows = run(graph, rule)
        times = timing(graph, rows)
        if times is not None:
            tried.append((Found(graph, rows, times), rule))
    return sorted(tried, key=lambda one: one[0].makespan)
