"""Schedules and rows for tests: made of stages that know nothing but their numbers."""

from types import SimpleNamespace
from typing import Any

from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining import schedules as ours

SINGLES = ("ScheduleGPipe", "Schedule1F1B")
LOOPS = ("ScheduleLoopedBFS", "ScheduleInterleaved1F1B", "ScheduleInterleavedZeroBubble")
VEES = ("ScheduleZBVZeroBubble", "ScheduleDualPipeV")
NAMES = (*SINGLES, *LOOPS, *VEES)
MULTI = (*LOOPS, *VEES)


def stage(num_stages, num_ranks=None, index=0, submod=None) -> Any:
    """A stage of rank 0, as a user's own class with an `__init__` that sets only this."""
    return SimpleNamespace(
        submod=submod,
        num_stages=num_stages,
        group_size=num_ranks or num_stages,
        group_rank=0,
        group=None,
        stage_index=index,
        is_first=index == 0,
        is_last=index == num_stages - 1,
        clear_runtime_states=lambda: None,
    )


def made(name, p, m, v=2, root=ours, **options) -> Any:
    """A schedule by its class's name, of p ranks with v stages each if it takes several."""
    cls = getattr(root, name)
    if name in ("_ScheduleForwardOnly", *SINGLES):
        return cls(stage(p), m, **options)
    return cls([stage(p * v, p, i) for i in range(v)], m, **options)


def rows(*lines, root=ours):
    """Rows written out: actions with spaces between, a point where the rank is idle."""
    read = root._Action.from_str
    return {rank: [None if cell == "." else read(cell) for cell in line.split()] for rank, line in enumerate(lines)}


def row(line, root=ours):
    return rows(line, root=root)[0]


def as_text(found):
    """Rows, or one row, as text, by which those of both roots are compared."""
    if isinstance(found, dict):
        return {rank: as_text(one) for rank, one in found.items()}
    return ["." if action is None else str(action) for action in found]


def as_theirs(found):
    return {rank: [None if a is None else theirs._Action.from_str(str(a)) for a in one] for rank, one in found.items()}
