"""The tasks of a problem as plain lists over dense numbers, because a search reads them millions of times.

    number = (stage * num_microbatches + microbatch) * 3 + kind        kind: F 0, I 1, W 2

With whole backwards, B has the number of I, and there is no W. A task needs at most one result of another row: the
order within a stage (F before I before W, microbatches ascending) is kept by whoever makes a row. `Graph.none`, the
number after the last one, stands for "no task"; lists of times have an entry for it.
"""

from dataclasses import dataclass

from funpipe.schedules.search_problem import Problem

F, I, W = 0, 1, 2
Rows = list[list[int]]
"""For each rank its tasks in order, as numbers."""


@dataclass(frozen=True)
class Graph:
    """A problem's tasks.

    Args:
        problem: the problem.
        duration: the time of each task, and 0 for none.
        rank: its rank.
        stage: its stage.
        need: the task whose result it waits for, or none.
        delay: how long that result travels.
        readers: the tasks that wait for its own result.
        frees: the kind whose end frees an activation.
    """

    problem: Problem
    duration: list[float]
    rank: list[int]
    stage: list[int]
    need: list[int]
    delay: list[float]
    readers: list[list[int]]
    frees: int

    @property
    def none(self) -> int:
        """The number that stands for no task."""
        return len(self.need)

    def work_of_a_microbatch(self, rank: int) -> float:
        """How long a rank works for each microbatch."""
        firsts = [3 * self.problem.num_microbatches * stage for stage in self.problem.stages_of[rank]]
        return sum(sum(self.duration[first : first + 3]) for first in firsts)


def graph_of(problem: Problem) -> Graph:
    """Numbers the tasks of a problem."""
    m, stages = problem.num_microbatches, range(problem.num_stages)
    backward = problem.I if problem.split else problem.B
    weights = problem.W if problem.split else (0.0,) * problem.num_stages
    by_kind = list(zip(problem.F, backward, weights, strict=True))
    stage = [s for s in stages for _ in range(3 * m)]
    rank = [problem.placement[s] for s in stage]
    need = [_need(problem, number) for number in range(len(stage))]
    none = len(stage)
    delay = [_delay(problem, number, needed) for number, needed in enumerate(need)]
    readers: list[list[int]] = [[] for _ in stage]
    for number, needed in enumerate(need):
        if needed < none:
            readers[needed].append(number)
    duration = [by_kind[s][number % 3] for number, s in enumerate(stage)]
    return Graph(problem, [*duration, 0.0], rank, stage, need, delay, readers, W if problem.split else I)


def _delay(problem: Problem, number: int, needed: int) -> float:
    per_stage = 3 * problem.num_microbatches
    stages = number // per_stage, needed // per_stage
    return problem.travel(min(stages)) if max(stages) < problem.num_stages and stages[0] != stages[1] else 0.0


def _need(problem: Problem, number: int) -> int:
    per_stage, last = 3 * problem.num_microbatches, problem.num_stages - 1
    none = per_stage * problem.num_stages
    stage, kind = number // per_stage, number % 3
    if kind == F:
        return number - per_stage if stage else none
    if kind == I:
        return number + per_stage if stage < last else number - 1
    return none
