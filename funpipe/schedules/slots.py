"""From the slot of each task, or from rows of tasks, to the grid of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from funpipe.schedules.codes import IDLE, pack
from funpipe.schedules.requirements import (
    require_in_range,
    require_kinds,
    require_masks,
    require_no_collision,
    require_room,
    require_slots,
)
from funpipe.schedules.row import Cell, spread
from funpipe.schedules.task import Kind


def grid_of(
    slots: Mapping[Kind, Any], rank_of_stage: np.ndarray, where: Mapping[Kind, Any], joined: Any
) -> tuple[np.ndarray, np.ndarray, int]:
    """The cells, the marks of pairs, and the number of microbatches; the arguments are those of `Table.from_slots`."""
    here, marks = {kind: np.asarray(mask) for kind, mask in where.items()}, np.asarray(joined)
    require_kinds(slots, [*here, *(["F"] if marks.any() else [])])
    arrays: dict[Kind, np.ndarray] = {kind: _present(np.asarray(slot), here.get(kind)) for kind, slot in slots.items()}
    num_stages, num_microbatches = require_slots(arrays, rank_of_stage)
    masks = [*here.values(), marks] if marks.any() or marks.shape else [*here.values()]
    require_masks(masks, (num_stages, num_microbatches))
    shape = int(rank_of_stage.max()) + 1, 1 + max(int(slot.max()) for slot in arrays.values())
    require_room(*shape)
    cells, places = np.full(shape, IDLE, np.int32), []
    stage, microbatch = np.arange(num_stages)[:, None], np.arange(num_microbatches)
    for kind, slot in arrays.items():
        codes, at = pack(kind, stage, microbatch, num_microbatches), rank_of_stage * shape[1] + slot
        codes, at = (codes[here[kind]], at[here[kind]]) if kind in here else (codes.ravel(), at.ravel())
        cells.ravel()[at] = codes
        places.append(at)
    require_no_collision(cells, places)
    return cells, _pairs(shape, rank_of_stage, arrays, marks), num_microbatches


def grid_of_rows(
    rows: Sequence[Sequence[Cell]], num_stages: int, num_microbatches: int
) -> tuple[np.ndarray, np.ndarray]:
    """The cells and the marks of pairs; the arguments are those of `Table.from_rows`."""
    spread_out = [spread(row) for row in rows]
    longest = max((len(row) for row, _ in spread_out), default=0)
    require_room(len(rows), longest, sum(len(row) for row, _ in spread_out))
    cells, joined = np.full((len(rows), longest), IDLE, np.int64), np.zeros((len(rows), longest), bool)
    for rank, (row, firsts) in enumerate(spread_out):
        joined[rank, firsts] = True
        for slot, task in enumerate(row):
            if task is not None:
                require_in_range(task, rank, slot, num_stages, num_microbatches)
                cells[rank, slot] = pack(task.kind, task.stage, task.microbatch, num_microbatches)
    return cells, joined


def _present(slot: np.ndarray, here: np.ndarray | None) -> np.ndarray:
    """The slots, with 0 where there is no task."""
    return slot if here is None or here.shape != slot.shape else np.where(here, slot, 0)


def _pairs(
    shape: tuple[int, int], rank_of_stage: np.ndarray, slots: Mapping[Kind, np.ndarray], joined: np.ndarray
) -> np.ndarray:
    """The marks of the forwards that run together with the task to their right."""
    if not joined.any():
        return np.zeros((), bool)
    pairs = np.zeros(shape, bool)
    pairs[np.broadcast_to(rank_of_stage, joined.shape)[joined], slots["F"][joined]] = True
    return pairs
