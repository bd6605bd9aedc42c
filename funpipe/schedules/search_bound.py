"""What no order of a problem's tasks can beat.

    through   a microbatch goes through all stages, forward and back
    work      a rank has work to do, cannot begin before the first result arrives, and after its last I the stages
              before it still have theirs to do, of which it can fill only what its postponed W take
    room      every activation is held for at least the time that its microbatch takes from here to the last stage and
              back; a rank that may hold n of them at once needs the sum of these times over n

The largest counts. `room` and what a rank can postpone are what a memory limit costs.
"""

from dataclasses import replace
from itertools import accumulate

from funpipe.schedules.search_problem import Problem, Times


def bound(problem: Problem) -> float:
    """A time that no makespan of the problem is below."""
    ranks = range(problem.num_ranks)
    return max(_lives(problem)[0], *(_work(problem, rank) for rank in ranks), *(_room(problem, rank) for rank in ranks))


def anywhere(problem: Problem) -> float:
    """A time that no makespan is below wherever the stages are, which are alike and equally many on each rank.

    Some rank is the last one that a microbatch reaches; on its way it has been on all the others.
    """
    others, stages, m = problem.num_ranks - 1, problem.num_stages, problem.num_microbatches
    f, i, b = problem.F[0], turn(problem)[0], backward(problem)[0]
    travel = problem.latency[0] if others else 0.0
    alone = replace(problem, latency=(0.0,) * (stages - 1))
    through = _lives(alone)[0] + 2 * others * travel
    after = others * travel + (others - 1) * i + b if others else 0.0
    postponed = max(problem.limits) * problem.W[0] if problem.split else 0.0
    work = others * (f + travel) + m * (f + b) * stages / problem.num_ranks + max(0.0, after - postponed)
    return max(through, work, m * sum(_lives(alone)) / sum(problem.limits))


def backward(problem: Problem) -> Times:
    """The least time of a whole backward on each stage."""
    whole = tuple(i + w for i, w in zip(problem.I, problem.W, strict=True)) if problem.split else problem.B
    return tuple(map(min, whole, problem.B))


def turn(problem: Problem) -> Times:
    """The least time on each stage from the gradient that comes in to the one that goes out."""
    return tuple(map(min, problem.I, problem.B)) if problem.split else problem.B


def _travels(problem: Problem) -> list[float]:
    return [problem.travel(boundary) for boundary in range(problem.num_stages - 1)]


def _work(problem: Problem, rank: int) -> float:
    stages, first = problem.stages_of[rank], problem.stages_of[rank][0]
    work = problem.num_microbatches * sum(problem.F[s] + backward(problem)[s] for s in stages)
    after = sum(turn(problem)[1:first]) + sum(_travels(problem)[:first]) + backward(problem)[0] if first else 0.0
    postponed = problem.limits[rank] * max(problem.W[s] for s in stages) if problem.split else 0.0
    return _head(problem, rank) + work + max(0.0, after - postponed)


def _room(problem: Problem, rank: int) -> float:
    lives = sum(_lives(problem)[stage] for stage in problem.stages_of[rank])
    return _head(problem, rank) + problem.num_microbatches * lives / problem.limits[rank]


def _head(problem: Problem, rank: int) -> float:
    """When the first result reaches a rank."""
    first = problem.stages_of[rank][0]
    return sum(problem.F[:first]) + sum(_travels(problem)[:first])


def _lives(problem: Problem) -> list[float]:
    """For each stage the least time from the beginning of its F to the end of its backward."""
    steps = map(sum, zip(problem.F[1:], turn(problem)[1:], (2 * t for t in _travels(problem)), strict=True))
    beyond = [0.0, *accumulate(reversed(list(steps)))][::-1]
    return [f + rest + b for f, rest, b in zip(problem.F, beyond, backward(problem), strict=True)]
