"""Random tables: whole and split backwards mixed, forwards and backwards that overlap, stages on any rank."""

from collections.abc import Iterator
from random import Random

from funpipe.schedules import Overlap, Table, Task


def random_table(random: Random, num_stages: int, num_microbatches: int, num_ranks: int | None = None) -> Table:
    """A table whose forwards, and whose backwards that accumulate, ascend on every stage.

    Args:
        random: draws everything.
        num_stages: the number of stages.
        num_microbatches: the number of microbatches.
        num_ranks: the number of ranks; one for each stage by default.
    """
    ranks = num_ranks or num_stages
    others = [random.randrange(ranks) for _ in range(num_stages - ranks)]
    placement = random.sample([*range(ranks), *others], num_stages)
    whole = {(s, i): random.random() < 0.3 for s in range(num_stages) for i in range(num_microbatches)}
    done: dict[Task, None] = {}
    rows: list[list[Task | Overlap]] = [[] for _ in range(ranks)]
    while ready := [t for s in range(num_stages) for t in _ready(s, num_stages, num_microbatches, whole, done)]:
        task = random.choice(ready)
        mates = [t for t in ready if _overlaps(task, t, placement)]
        chosen = Overlap(task, random.choice(mates)) if mates and random.random() < 0.5 else task
        rows[placement[task.stage]].append(chosen)
        done |= dict.fromkeys(chosen if isinstance(chosen, Overlap) else (chosen,))
    return Table.from_rows(rows, placement=placement, num_microbatches=num_microbatches)


def _ready(
    stage: int, num_stages: int, num_microbatches: int, whole: dict[tuple[int, int], bool], done: dict[Task, None]
) -> Iterator[Task]:
    """What a stage can run next: of forwards, and of gradients of weights, the first one that is left."""
    for i in range(num_microbatches):
        forward, back, ends = Task("F", stage, i), _back(stage, i, whole), _ends(stage, i, whole)
        if forward not in done and (stage == 0 or Task("F", stage - 1, i) in done) and _first(stage, i, done):
            yield forward
        in_turn = all(_ends(stage, k, whole) in done for k in range(i))
        given = forward in done and (stage == num_stages - 1 or _back(stage + 1, i, whole) in done)
        if back not in done and given and (back != ends or in_turn):
            yield back
        if ends not in done and back != ends and back in done and in_turn:
            yield ends


def _back(stage: int, microbatch: int, whole: dict[tuple[int, int], bool]) -> Task:
    """The task that the stage below waits for."""
    return Task("B" if whole[stage, microbatch] else "I", stage, microbatch)


def _ends(stage: int, microbatch: int, whole: dict[tuple[int, int], bool]) -> Task:
    """The task that accumulates."""
    return Task("B" if whole[stage, microbatch] else "W", stage, microbatch)


def _first(stage: int, microbatch: int, done: dict[Task, None]) -> bool:
    return all(Task("F", stage, k) in done for k in range(microbatch))


def _overlaps(one: Task, other: Task, placement: list[int]) -> bool:
    """Whether two tasks that are both ready can be a forward and a backward at once."""
    same = placement[one.stage] == placement[other.stage]
    return same and one.kind == "F" != other.kind and one != other
