"""Whether a table makes sense: each task once and on its rank, in an order that ranks can run without a deadlock."""

from itertools import islice

import numpy as np

from funpipe._errors import FunpipeTypeError
from funpipe.schedules.codes import IDLE, is_kind, pack, pair_of, unpack
from funpipe.schedules.columns import columns_of_results, drawn_as_it_runs
from funpipe.schedules.dependencies import Dependencies, dependencies, rounds
from funpipe.schedules.report import Mark, failure
from funpipe.schedules.table import Table
from funpipe.schedules.task import Kind, Task

# What has to be done once for each stage and microbatch, and the kinds that do it.
DUTIES: dict[str, tuple[Kind, ...]] = {
    "the forward": ("F",),
    "the gradient of the inputs": ("B", "I"),
    "the gradient of the weights": ("B", "W"),
}


def check(table: Table) -> None:
    """Raises unless the table is a schedule that can run.

    The rules: every rank holds a stage; every task is on its stage's rank; for each stage and microbatch there is one
    F and either one B or one I and one W (in a table of F tasks alone, an inference, one F); on a stage F comes before
    B or I, and I before W; and no deadlock when each rank runs its row in order and waits for what a task needs from
    the neighbouring stages.

    Args:
        table: the table.

    Raises:
        ScheduleError: a rule is broken; the text has the grid with the failing cell in brackets and the remedy.
        FunpipeTypeError: something else was passed, such as a schedule.

    Example:
        >>> from funpipe.schedules import GPipe, Task
        >>> check(GPipe().table(num_ranks=4, num_microbatches=8))
        >>> check(Table.from_rows([[Task("B", 0, 0), Task("F", 0, 0)]], placement=(0,), num_microbatches=1))
        Traceback (most recent call last):
        ...
        funpipe._errors.ScheduleError: 0B0 on rank 0, slot 0 comes before 0F0, which it needs.
        rank 0 | [0B0] 0F0  <-- needs 0F0
        Move 0F0 before 0B0 in the row of rank 0.
    """
    checked(table)


def checked(table: Table) -> Dependencies:
    """`check`, for who goes on with the table's dependencies."""
    if not isinstance(table, Table):
        given = type(table).__name__
        raise FunpipeTypeError(f"table is a {given}; pass a Table, such as OneFOneB().table(4, 8).")
    _every_rank_holds_a_stage(table)
    _each_task_is_on_its_rank(table)
    trains = table.has_backwards
    for duty, kinds in DUTIES.items():
        if kinds == ("F",) or trains:
            _once(table, duty, kinds)
    needs = dependencies(table)
    _a_stage_is_in_order(table, needs)
    if not drawn_as_it_runs(table, needs):
        _no_deadlock(table, needs)
    return needs


def _every_rank_holds_a_stage(table: Table) -> None:
    empty = sorted(set(range(table.num_ranks)) - set(table.placement))
    if empty:
        what = f"rank {empty[0]} holds no stage: {table.num_stages} stages are on {len(set(table.placement))} ranks."
        remedy = f"Place a stage on rank {empty[0]}, or use {len(set(table.placement))} ranks."
        raise failure(table, what, {empty[0]: Mark(None, "holds no stage")}, remedy)


def _each_task_is_on_its_rank(table: Table) -> None:
    stages = pair_of(table.cells) // table.num_microbatches
    at_home = np.array(table.placement, np.int32)[stages] == np.arange(table.num_ranks)[:, None]
    wrong = np.argwhere(~at_home & (table.cells != IDLE))
    if wrong.size:
        rank, slot = map(int, wrong[0])
        task = _task(table, rank, slot)
        home = table.placement[task.stage]
        what = f"{task} on rank {rank}, slot {slot}: stage {task.stage} is placed on rank {home}."
        mark = Mark(slot, f"stage {task.stage} is on rank {home}")
        raise failure(table, what, {rank: mark}, f"Move {task} to the row of rank {home}, or change the placement.")


def _once(table: Table, duty: str, kinds: tuple[Kind, ...]) -> None:
    done = is_kind(table.cells, *kinds)
    pairs = pair_of(table.cells[done])
    total = table.num_stages * table.num_microbatches
    if pairs.size == total and np.bincount(pairs, minlength=total).all():
        return
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    twice = np.flatnonzero(pairs[1:] == pairs[:-1])
    if twice.size:
        first, second = np.argwhere(done)[order[twice[0] :][:2]].tolist()
        raise _done_twice(table, duty, tuple(first), tuple(second))
    gaps = np.flatnonzero(pairs != np.arange(pairs.size))
    raise _missing(table, kinds, int(gaps[0]) if gaps.size else pairs.size)


def _done_twice(table: Table, duty: str, first: tuple[int, int], second: tuple[int, int]) -> Exception:
    (rank, slot), task = second, _task(table, *second)
    what = (
        f"{task} on rank {rank}, slot {slot}: {duty} of stage {task.stage}, microbatch {task.microbatch} "
        f"was already computed by {_task(table, *first)} on rank {first[0]}, slot {first[1]}."
    )
    return failure(table, what, {rank: Mark(slot, "a second time")}, "Remove one of the two.")


def _missing(table: Table, kinds: tuple[Kind, ...], pair: int) -> Exception:
    stage, microbatch = divmod(pair, table.num_microbatches)
    tasks = {kind: str(Task(kind, stage, microbatch)) for kind in ("F", "B", "I", "W")}
    name = f"{tasks['B']} (or {tasks['I']} and {tasks['W']})" if kinds == ("B", "I") else tasks[kinds[-1]]
    rank = table.placement[stage]
    what = f"rank {rank} never runs {name}, of stage {stage} and microbatch {microbatch}."
    return failure(table, what, {rank: Mark(None, f"{name} is missing")}, f"Add {name} to the row of rank {rank}.")


def _a_stage_is_in_order(table: Table, needs: Dependencies) -> None:
    slots = np.broadcast_to(np.arange(table.num_slots, dtype=np.int32), table.cells.shape)
    late = np.argwhere(columns_of_results(table, needs, slots)[needs.own] >= slots)
    if late.size:
        rank, slot = map(int, late[0])
        task, needed = _task(table, rank, slot), _task_that_leaves(table, int(needs.own[rank, slot]))
        what = f"{task} on rank {rank}, slot {slot} comes before {needed}, which it needs."
        remedy = f"Move {needed} before {task} in the row of rank {rank}."
        raise failure(table, what, {rank: Mark(slot, f"needs {needed}")}, remedy)


def _no_deadlock(table: Table, needs: Dependencies) -> None:
    reached = np.zeros(table.num_ranks, np.int64)
    for ranks, slots in rounds(table, needs):
        reached[ranks] = slots + 1
    if (reached < table.num_slots).any():
        raise _deadlock(table, needs, reached)


def _deadlock(table: Table, needs: Dependencies, reached: np.ndarray) -> Exception:
    """Follows the ranks that wait for each other; each waits for a task that comes later in the next one's row."""
    rank = int(np.flatnonzero(reached < table.num_slots)[0])
    awaited: dict[int, Task] = {}
    while rank not in awaited:
        awaited[rank] = _awaited(table, needs, reached, rank)
        rank = table.placement[awaited[rank].stage]
    cycle = list(awaited)[list(awaited).index(rank) :]
    heads = {rank: table.rows[rank][int(reached[rank])] for rank in cycle}
    waits = [f"rank {r} waits at slot {reached[r]}, {heads[r]}, for {awaited[r]}" for r in islice(cycle, 8)]
    what = f"deadlock: {'; '.join(waits)}{'; ...' if len(cycle) > 8 else ''}."
    marks = {r: Mark(int(reached[r]), f"waits for {awaited[r]}") for r in cycle}
    blocked, needed = table.placement[awaited[cycle[0]].stage], awaited[cycle[0]]
    return failure(table, what, marks, f"Move {needed} before {heads[blocked]} in the row of rank {blocked}.")


def _awaited(table: Table, needs: Dependencies, reached: np.ndarray, rank: int) -> Task:
    """The task of another rank, or later in this one, that the rank waits for; of two that run together, either may."""
    slot = int(reached[rank])
    results = needs.other[rank, slot : slot + 1 + int(table.joined[rank, slot])]
    tasks = [_task_that_leaves(table, result) for result in results[results != IDLE].tolist()]
    return next(task for task in tasks if not _is_done(table, reached, task))


def _is_done(table: Table, reached: np.ndarray, task: Task) -> bool:
    rank = table.placement[task.stage]
    code = pack(task.kind, task.stage, task.microbatch, table.num_microbatches)
    return bool((table.cells[rank, : reached[rank]] == code).any())


def _task(table: Table, rank: int, slot: int) -> Task:
    return unpack(int(table.cells[rank, slot]), table.num_microbatches)


def _task_that_leaves(table: Table, result: int) -> Task:
    """The task of the table with this result: I's result may be a B's."""
    code = result if (table.cells == result).any() else result - 1
    return unpack(code, table.num_microbatches)
