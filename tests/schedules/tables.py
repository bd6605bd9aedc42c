"""Random tables that can run, and a second, plain reading of the rules, for the laws."""

from collections.abc import Sequence

from hypothesis import strategies as st

from funpipe.schedules import Overlap, Table, Task
from funpipe.schedules.task import Kind

Rows = list[list[Task | Overlap | None]]
KIND_SETS: list[tuple[Kind, ...]] = [("F", "B"), ("F", "I", "W")]


def needs(task: Task, num_stages: int) -> list[list[Task]]:
    """What a task waits for: for each item, one of its tasks."""
    _, s, i = task.kind, task.stage, task.microbatch
    if task.kind == "F":
        return [[Task("F", s - 1, i)]] if s else []
    if task.kind == "W":
        return [[Task("I", s, i)]]
    after = [[Task("B", s + 1, i), Task("I", s + 1, i)]] if s + 1 < num_stages else []
    return [[Task("F", s, i)], *after]


def parts(cell: Task | Overlap) -> tuple[Task, ...]:
    """The one task of a cell, or both."""
    return (cell.first, cell.second) if isinstance(cell, Overlap) else (cell,)


def can_run(cell: Task | Overlap, done: set[Task], num_stages: int) -> bool:
    """Whether all that a task waits for is done; of two that run together, all that both wait for."""
    return all(done.intersection(options) for task in parts(cell) for options in needs(task, num_stages))


def is_complete(rows: Rows, placement: Sequence[int], num_microbatches: int) -> bool:
    """Whether each stage and microbatch has one F and either B or I and W, or all one F alone, each on its rank."""
    tasks = [[task for cell in row if cell is not None for task in parts(cell)] for row in rows]
    found = sorted((t.stage, t.microbatch, t.kind) for row in tasks for t in row)
    at_home = all(placement[t.stage] == rank for rank, row in enumerate(tasks) for t in row)
    kinds: dict[tuple[int, int], str] = {(s, i): "" for s in range(len(placement)) for i in range(num_microbatches)}
    for s, i, kind in found:
        kinds[s, i] += kind
    return at_home and (set(kinds.values()) <= {"BF", "FIW"} or set(kinds.values()) == {"F"})


def runs_to_the_end(rows: Rows, num_stages: int) -> bool:
    """Whether ranks that run their rows in order, and wait for what a task needs, all come to the end."""
    left = [[task for task in row if task is not None] for row in rows]
    done: set[Task] = set()
    while heads := [row for row in left if row and can_run(row[0], done, num_stages)]:
        done.update(task for row in heads for task in parts(row.pop(0)))
    return not any(left)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Any valid table of up to 3 ranks, 4 stages and 4 microbatches: tasks in any order that their needs allow."""
    num_ranks = draw(st.integers(1, 3))
    spare = draw(st.lists(st.integers(0, num_ranks - 1), max_size=4 - num_ranks))
    placement = draw(st.permutations([*range(num_ranks), *spare]))
    num_microbatches = draw(st.integers(1, 4))
    todo = set()
    for s in range(len(placement)):
        for i in range(num_microbatches):
            todo.update(Task(kind, s, i) for kind in draw(st.sampled_from(KIND_SETS)))
    rows: Rows = [[] for _ in range(num_ranks)]
    done: set[Task] = set()
    while todo:
        ready = sorted(task for task in todo if can_run(task, done, len(placement)))
        task = draw(st.sampled_from(ready))
        rows[placement[task.stage]] += [None] * draw(st.integers(0, 1)) + [task]
        done.add(task)
        todo.remove(task)
    return Table.from_rows(rows, placement=placement, num_microbatches=num_microbatches)
