"""A task as one integer, so that a table is one integer array and its laws are array arithmetic.

    code = (stage * num_microbatches + microbatch) * 4 + kind        kind: F 0, B 1, I 2, W 3        idle: -1

The codes of a table are dense from 0: arrays over all tasks are indexed by code. -1 indexes such an array's last entry,
so one entry more than there are codes gives "idle" and "no task" a place of their own.
"""

from typing import Any

import numpy as np

from funpipe.schedules.task import KINDS, Kind, Task

IDLE = -1

NUMBER_OF: dict[Kind, int] = {kind: number for number, kind in enumerate(KINDS)}

MAX_CODES = 2**30
"""Codes, and a code plus one stage's worth of codes, stay inside 32 bits."""


def pack(kind: Kind, stage: Any, microbatch: Any, num_microbatches: int) -> Any:
    """The code of a task; `stage` and `microbatch` are integers or integer arrays that broadcast."""
    return (stage * num_microbatches + microbatch) * 4 + NUMBER_OF[kind]


def unpack(code: int, num_microbatches: int) -> Task:
    """The task of a code that is not idle."""
    stage, microbatch = divmod(int(code) // 4, num_microbatches)
    return Task(KINDS[code % 4], stage, microbatch)


def is_kind(codes: np.ndarray, *kinds: Kind) -> np.ndarray:
    """Where `codes` holds a task of one of the kinds; idle is of no kind."""
    number = codes.astype(np.uint8) & 3  # bytes: tables have millions of cells
    found = np.zeros(codes.shape, bool)
    for kind in kinds:
        found |= number == NUMBER_OF[kind]
    return found & (codes != IDLE)


def pair_of(codes: np.ndarray) -> np.ndarray:
    """The number of the (stage, microbatch) pair of each code, `stage * num_microbatches + microbatch`; idle: -1."""
    return codes >> 2
