"""A schedule as one microbatch's tasks, repeated: the building block, which comes again after a fixed number of slots.

The same block every `period` slots never collides when its slots on each rank differ modulo the period. How long a
block holds an activation, from F to the task that frees it, is what a rank has to keep: peak = sum of these / period.

Source: Qi et al., "Pipeline Parallelism with Controllable Memory", arXiv 2405.15362, section 3.
"""

from collections.abc import Sequence
from itertools import count, permutations

import numpy as np

from funpipe.schedules.task import Kind

Block = dict[Kind, np.ndarray]
"""For each kind of task the slot on each stage, shape (num_stages,)."""


def repeat(block: Block, period: int, num_microbatches: int) -> dict[Kind, np.ndarray]:
    """The slots of all microbatches' tasks: microbatch i is i periods after microbatch 0.

    Args:
        block: microbatch 0's slots.
        period: the slots from one microbatch to the next.
        num_microbatches: how many microbatches a step has.

    Returns:
        For each kind the slots, shape (num_stages, num_microbatches), as `Table.from_slots` takes them.
    """
    return {kind: slot[:, None] + period * np.arange(num_microbatches) for kind, slot in block.items()}


def straight(stage_to_rank: Sequence[int]) -> tuple[Block, int]:
    """The block in which a microbatch goes through all stages and back, each task in the first slot left for it.

    Args:
        stage_to_rank: the rank of each stage: any map.

    Returns:
        The slots of F and B, and the period, at which the rank with most stages is never idle.
    """
    period = 2 * max(np.bincount(stage_to_rank))
    path = [*enumerate(stage_to_rank), *reversed(list(enumerate(stage_to_rank)))]
    taken: set[tuple[int, int]] = set()
    slots: list[int] = []
    for _, rank in path:
        slot = next(t for t in count(slots[-1] + 1 if slots else 0) if (rank, t % period) not in taken)
        taken.add((rank, slot % period))
        slots.append(slot)
    forward, backward = np.array(slots[: len(stage_to_rank)]), np.array(slots[len(stage_to_rank) :])
    return {"F": forward, "B": backward[::-1]}, int(period)


def fill(block: Block, stage_to_rank: Sequence[int], period: int) -> Block:
    """The block with its W: each rank's in the slots left over, with as little waiting after I as they allow.

    Where two ways wait the same, the first stage's W is the earlier one: its activation is held the longest.

    Args:
        block: the slots of F and I.
        stage_to_rank: the rank of each stage.
        period: the slots from one microbatch to the next: three for each stage of a rank.

    Returns:
        The slots of F, I and W.
    """
    rank_of, weights = np.asarray(stage_to_rank), np.zeros(len(stage_to_rank), int)
    for rank in range(rank_of.max() + 1):
        stages = np.flatnonzero(rank_of == rank)
        taken = np.concatenate([block["F"][stages], block["I"][stages]]) % period
        left = np.setdiff1d(np.arange(period), taken)
        ready = block["I"][stages] + 1
        waits = [(np.array(order) - ready) % period for order in permutations(left.tolist())]
        weights[stages] = ready + min(waits, key=lambda wait: (wait.sum(), *wait))
    return {**block, "W": weights}
