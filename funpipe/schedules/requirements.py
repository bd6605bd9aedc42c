"""What a table demands of the numbers that it is made of, so that its codes and sizes can be relied on."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from funpipe._errors import ScheduleError
from funpipe.schedules.codes import IDLE, MAX_CODES, is_kind, pair_of
from funpipe.schedules.task import KINDS, Kind, Task

SMALL = 2**24
"""A grid of so many cells may be filled up from rows of any lengths; they are about 200 MB while it is made."""

PADDING = 128
"""How many times what was written a larger grid may be: a short text must not ask for all the memory there is."""


def require_cells(cells: np.ndarray, num_codes: int) -> None:
    """Every cell is idle or a code."""
    wrong = cells[(cells < IDLE) | (cells >= num_codes)]
    if wrong.size:
        raise ScheduleError(f"cell {wrong[0]} is no task: codes are -1 to {num_codes - 1}; build with Table.from_rows.")


def require_joined(joined: np.ndarray, cells: np.ndarray) -> None:
    """Every pair that runs together is a forward and, right of it, a backward of another stage or microbatch."""
    if joined.shape != cells.shape or joined.dtype != bool:
        raise ScheduleError(
            f"joined is {joined.dtype}{list(joined.shape)}; pass booleans of the shape of cells, {list(cells.shape)}."
        )
    ranks, slots = np.nonzero(joined)
    if (slots == cells.shape[1] - 1).any():
        raise ScheduleError(f"joined marks the last slot, {cells.shape[1] - 1}; mark the first slot of each pair.")
    first, second = cells[ranks, slots], cells[ranks, slots + 1]
    right = is_kind(first, "F") & is_kind(second, "B", "I", "W") & (pair_of(first) != pair_of(second))
    if not right.all():
        rank, slot = int(ranks[~right][0]), int(slots[~right][0])
        raise ScheduleError(
            f"slots {slot} and {slot + 1} of rank {rank} cannot run together; "
            "join a forward with a backward, right of it, of another stage or microbatch."
        )


def require_room(num_ranks: int, num_slots: int, num_written: int | None = None) -> None:
    """The grid fits, and rows that were written out are not so uneven that it is mostly what fills them up."""
    most = MAX_CODES if num_written is None else min(MAX_CODES, max(SMALL, PADDING * num_written))
    if num_ranks * num_slots > most:
        raise ScheduleError(f"{num_ranks} ranks of up to {num_slots} slots are too large a grid; shorten the rows.")


def require_slots(slots: Mapping[Kind, np.ndarray], rank_of_stage: np.ndarray) -> tuple[int, int]:
    """Slots of one shape, (num_stages, num_microbatches), in which no rank has two tasks; returns the shape."""
    shapes = {slot.shape for slot in slots.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or shape[0] != len(rank_of_stage) or 0 in shape:
        raise ScheduleError(
            f"slots have shapes {[slot.shape for slot in slots.values()]}; give every kind one integer array of shape "
            f"(num_stages, num_microbatches), with num_stages {len(rank_of_stage)} as in placement."
        )
    if any(not np.issubdtype(slot.dtype, np.integer) or slot.min() < 0 for slot in slots.values()):
        raise ScheduleError("slots are not all integers from 0 on; number the columns of the grid from 0.")
    if rank_of_stage.min() < 0:
        raise ScheduleError(f"placement has rank {rank_of_stage.min()}; number the ranks from 0.")
    return shape


def require_kinds(slots: Collection[str], asked: Iterable[str]) -> None:
    """Slots are of kinds that there are, and those of which more is said are among them."""
    for kind in slots:
        if kind not in KINDS:
            raise ScheduleError(f"slots are given for kind {kind!r}; use {', '.join(KINDS)}.")
    for kind in asked:
        if kind not in slots:
            raise ScheduleError(f"where or joined speaks of kind {kind!r}; give slots for it: there are {[*slots]}.")


def require_masks(masks: Sequence[np.ndarray], shape: tuple[int, int]) -> None:
    """What says which tasks there are, and which run together, does so for every stage and microbatch."""
    for mask in masks:
        if mask.shape != shape or mask.dtype != bool:
            raise ScheduleError(
                f"where or joined holds {mask.dtype}{list(mask.shape)}; pass booleans of shape (num_stages, "
                f"num_microbatches), {list(shape)} as the slots have."
            )


def require_no_collision(cells: np.ndarray, places: Sequence[np.ndarray]) -> None:
    """After the tasks are in `cells`, at `places` of the flat grid: none has overwritten another."""
    if np.count_nonzero(cells != IDLE) == sum(at.size for at in places):
        return
    found, count = np.unique(np.concatenate(places), return_counts=True)
    rank, slot = divmod(int(found[count > 1][0]), cells.shape[1])
    raise ScheduleError(f"rank {rank} has two tasks in slot {slot}; give each task of a rank a slot of its own.")


def require_sizes(cells: np.ndarray, placement: tuple[int, ...], num_microbatches: int) -> None:
    """The cells are a grid, and its stages have ranks."""
    if cells.ndim != 2 or not np.issubdtype(cells.dtype, np.integer) or cells.size == 0:
        raise ScheduleError(
            f"cells are {cells.dtype}{list(cells.shape)}; "
            "pass integers of shape (num_ranks, num_slots), both at least 1."
        )
    if num_microbatches < 1 or not placement:
        raise ScheduleError(
            f"{len(placement)} stages and num_microbatches={num_microbatches}; a table needs at least one of each."
        )
    if 4 * len(placement) * num_microbatches > MAX_CODES:
        raise ScheduleError(
            f"{len(placement)} stages of {num_microbatches} microbatches are too many for a table; "
            f"use at most {MAX_CODES // 4 // len(placement)} microbatches."
        )
    for stage, rank in enumerate(placement):
        if not 0 <= rank < cells.shape[0]:
            raise ScheduleError(
                f"stage {stage} is placed on rank {rank}, but there are {cells.shape[0]} rows; "
                f"place it on a rank from 0 to {cells.shape[0] - 1}."
            )


def require_in_range(task: Task, rank: int, slot: int, num_stages: int, num_microbatches: int) -> None:
    """The task has a code; else its stage or microbatch would be read as another one's."""
    if task.stage >= num_stages or task.microbatch >= num_microbatches:
        raise ScheduleError(
            f"{task} on rank {rank}, slot {slot} is out of range; use stages 0 to {num_stages - 1} (one for each entry "
            f"of placement) and microbatches 0 to {num_microbatches - 1}."
        )
