"""Makes an order by letting each rank decide what to run next whenever it is free.

A rank takes the first task of its rule's order that it can start now. If there is none it runs a W, which nothing else
waits for, unless a task of the order is about to arrive: a patient rule waits for that. Microbatches ascend in every
stage, so that a rank has few tasks to choose from and the state is a few counters.

An F needs room. It is refused when the rank would not keep one activation free for each of its later stages: the
oldest microbatch can then always go on, and no rule ends in a deadlock while a rank may hold one activation per stage.
"""

from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from funpipe.schedules.search_graph import F, Graph, I, Rows, W


@dataclass(frozen=True)
class Rule:
    """What a free rank prefers.

    Args:
        order: (kind, chunk) from the most to the least preferred; chunk c is the rank's c-th stage.
        patience: how long it waits for a task of the order instead of running a W, as a part of that W's time.
        depth: how many microbatches a rank's first stage may have between their F and their I; None: any number.
        pace: the least time between two microbatches that enter the pipeline, as a part of what the rank that they
            enter has to do for each; a steady entry holds fewer activations than one in bursts.
    """

    order: tuple[tuple[int, int], ...]
    patience: float = 0.5
    depth: int | None = None
    pace: float = 0.0


@dataclass(frozen=True)
class _Choice:
    """F or I of one stage as one of the things that a rank may do."""

    kind: int
    stage: int
    room: int  # an F's: what the rank may hold before it
    depth: int  # an F's: how many microbatches may be ahead of I


class _Run:
    """The state of a run: what each stage does next, what each rank holds, when each result is there."""

    def __init__(self, graph: Graph, rule: Rule) -> None:
        problem = graph.problem
        self.graph, self.m, self.patience = graph, problem.num_microbatches, rule.patience
        self.choices = [_choices(graph, rule, rank) for rank in range(problem.num_ranks)]
        self.next = [[0, 0, 0] for _ in problem.placement]  # the next microbatch of F, I, W of each stage
        self.held = [0] * problem.num_ranks
        self.clock = [0.0] * problem.num_ranks
        self.there = [0.0 if need == graph.none else inf for need in graph.need]
        self.rows: Rows = [[] for _ in problem.stages_of]
        self.events = [(0.0, rank) for rank in range(problem.num_ranks)]
        self.entries = range(0, 3 * (self.m - 1), 3)  # the F of the first stage, but for the last microbatch
        self.gap = rule.pace * graph.work_of_a_microbatch(problem.placement[0])


def run(graph: Graph, rule: Rule) -> Rows:
    """The rows that a rule makes.

    Args:
        graph: the tasks.
        rule: what ranks prefer.

    Returns:
        All tasks of the graph; no rank holds more than its limit.
    """
    state = _Run(graph, rule)
    while state.events:
        now, rank = heappop(state.events)
        if now < state.clock[rank]:
            continue  # it is busy, and has an event when it is free
        number, wake = _choose(state, rank, now)
        if number is not None:
            _start(state, rank, number, now)
        elif wake < inf:
            heappush(state.events, (wake, rank))
    return state.rows


def _choices(graph: Graph, rule: Rule, rank: int) -> list[_Choice]:
    """The rule's order on one rank."""
    stages, limit, m = graph.problem.stages_of[rank], graph.problem.limits[rank], graph.problem.num_microbatches
    depths = [rule.depth or m, *[m] * len(stages)]
    order = [(kind, chunk) for kind, chunk in rule.order if chunk < len(stages)]
    return [_Choice(kind, stages[chunk], limit - len(stages) + chunk, depths[chunk]) for kind, chunk in order]


def _choose(state: _Run, rank: int, now: float) -> tuple[int | None, float]:
    """The task to start now, or None and the time at which to ask again."""
    wake, m, held, there = inf, state.m, state.held[rank], state.there
    for choice in state.choices[rank]:
        count = state.next[choice.stage]
        microbatch = count[choice.kind]
        if choice.kind == F:
            if microbatch == m or held > choice.room or microbatch - count[I] >= choice.depth:
                continue
        elif microbatch == count[F]:
            continue
        number = (choice.stage * m + microbatch) * 3 + choice.kind
        ready = there[number]
        if ready <= now:
            return number, now
        if ready < wake:
            wake = ready
    weights = _oldest_weights(state, rank) if state.graph.frees == W else None
    if weights is not None and wake >= now + state.patience * state.graph.duration[weights]:
        return weights, now
    return None, wake


def _oldest_weights(state: _Run, rank: int) -> int | None:
    """The W that the rank can run for the lowest microbatch."""
    stages = state.graph.problem.stages_of[rank]
    ready = [(count[W], stage) for stage in stages if (count := state.next[stage])[W] < count[I]]
    if not ready:
        return None
    microbatch, stage = min(ready)
    return (stage * state.m + microbatch) * 3 + W


def _start(state: _Run, rank: int, number: int, now: float) -> None:
    graph, kind = state.graph, number % 3
    end = state.clock[rank] = now + graph.duration[number]
    state.rows[rank].append(number)
    state.next[graph.stage[number]][kind] += 1
    state.held[rank] += (kind == F) - (kind == graph.frees)
    if number in state.entries:
        state.there[number + 3] = now + state.gap
    heappush(state.events, (end, rank))
    for reader in graph.readers[number]:
        arrival = state.there[reader] = end + graph.delay[reader]
        if arrival >= state.clock[graph.rank[reader]]:  # else that rank is busy for longer, and has an event at its end
            heappush(state.events, (arrival, graph.rank[reader]))
