"""Finds a table for given times and memory.

Three steps, each on what the one before has found: the named schedules that fit (`search_named`); rules by which a free
rank decides what to run next (`search_greedy`, `search_sweep`); and moves of single tasks along the longest path
(`search_moves`, `search_anneal`). The shortest table of all is returned, so that it is never worse than a named one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from operator import attrgetter
from random import Random

from funpipe.schedules.codes import is_kind
from funpipe.schedules.constraints import at_least, integer
from funpipe.schedules.numbers import Numbers
from funpipe.schedules.search_anneal import anneal
from funpipe.schedules.search_bound import bound
from funpipe.schedules.search_clock import Found, timing
from funpipe.schedules.search_graph import Graph, graph_of
from funpipe.schedules.search_named import Named, named_that_fit
from funpipe.schedules.search_problem import Problem
from funpipe.schedules.search_request import Request
from funpipe.schedules.search_rows import rows_of, table_of
from funpipe.schedules.search_sweep import sweep
from funpipe.schedules.table import Table

_makespan = attrgetter("makespan")

STARTS = 6
"""From how many orders the moves begin."""

CLOSE = 1 + 1e-9
"""What is within this factor of a bound has reached it, and what is within it of a named schedule is not shorter."""


def search(
    num_ranks: int,
    num_microbatches: int,
    F: Numbers = 1.0,
    I: Numbers = 1.0,
    W: Numbers = 1.0,
    *,
    B: Numbers | None = None,
    latency: Numbers = 0.0,
    memory_limit: Numbers | None = None,
    placement: Sequence[int] | None = None,
    stages_per_rank: int | Sequence[int] = (1, 2),
    split: bool = True,
    tries: int = 2000,
    seed: int = 0,
) -> Table:
    """A table for given times and memory that is never worse than the best named schedule that fits.

    Args:
        num_ranks: ranks along the pipeline.
        num_microbatches: microbatches of a step.
        F: the time of one forward of one microbatch, in any unit. One number: of all stages of a rank together, which
            share it equally, so that placements with different numbers of stages compare. A sequence: of each stage;
            needs `placement`.
        I: the same of the gradient of the inputs.
        W: the same of the gradient of the weights.
        B: the same of a whole backward; None: I + W.
        latency: the time that a result takes from one rank to another: a number, or with `placement` one for each
            boundary between stages.
        memory_limit: the most activations that a rank may hold at once, in what one microbatch leaves on all stages of
            the rank together (`simulate`'s peak_activations over the rank's number of stages): a number, or one for
            each rank; None: no limit.
        placement: the rank of each stage; None: chosen by the search, stages going around the ranks or there and back.
        stages_per_rank: without a placement, how many stages each rank has: a number, or numbers to choose from.
        split: whether backwards may be split into I and W; else all tasks are F and B.
        tries: how many orders are tried: one in four is made by a rule, the others by moves. The time is proportional
            to `tries` and to the number of tasks, three for each stage and microbatch.
        seed: of the random numbers that choose moves.

    Returns:
        A table that passes `check`, stays within the limit, and is not longer than any named schedule of the registry
        that does and has one of these placements. The same arguments give the same table, on every rank.

    Raises:
        ScheduleError: a limit below 1, which no schedule can meet; or an argument that is out of range.

    Example:
        >>> from funpipe.schedules import simulate
        >>> table = search(4, 8, memory_limit=4)  # F = I = W = 1 on a rank, no more activations than 1F1B
        >>> table.num_stages, simulate(table, F=0.5, I=0.5, W=0.5).bubble
        (8, 1.5)
    """
    tries, seed = at_least(1, tries, "tries", "search"), integer(seed, "seed", "search")
    request = Request(num_ranks, num_microbatches, F, I, W, B, latency, memory_limit, placement, stages_per_rank, split)
    problems = request.problems()
    named = named_that_fit(problems, request.stage_counts())
    graphs = [graph_of(problem) for problem in _with_whole_backwards(problems)]
    found = _shortest(graphs, named, tries, Random(seed))
    table = table_of(found)
    enough = CLOSE * found.graph.problem.simulate(table).makespan
    return named[0].table if named and named[0].makespan <= enough else table


def _shortest(graphs: Sequence[Graph], named: Sequence[Named], tries: int, random: Random) -> Found:
    """The shortest rows of any of the placements, moved until all tries are used or a bound is reached."""
    target = CLOSE * min(bound(graph.problem) for graph in graphs)
    starts = [*_from_named(graphs, named), *sweep(graphs, tries=tries // 4, target=target)]
    best = min(starts, key=_makespan)
    for start in sorted(starts, key=_makespan)[:STARTS]:
        if best.makespan <= target:
            break
        found = anneal(start, tries=(tries - tries // 4) // STARTS, target=target, random=random)
        best = min(best, found, key=_makespan)
    return best


def _with_whole_backwards(problems: Sequence[Problem]) -> Iterator[Problem]:
    """The problems, and where a whole backward is cheaper than its two parts, also without the split."""
    for problem in problems:
        yield problem
        if problem.split and any(b < i + w for b, i, w in zip(problem.B, problem.I, problem.W, strict=True)):
            yield replace(problem, split=False)


def _from_named(graphs: Sequence[Graph], named: Sequence[Named]) -> Iterator[Found]:
    """The best named schedule as rows, unless tasks of it run together, which rows do not know."""
    for one, graph in product(named[:1], graphs):
        readable = graph.problem.split or not is_kind(one.table.cells, "I", "W").any()
        if graph.problem.placement == one.problem.placement and readable and not one.table.has_overlaps:
            rows = rows_of(graph, one.table)
            times = timing(graph, rows)
            if times is not None:
                yield Found(graph, rows, times)
