"""The schedules that a plan chooses from when nothing is said."""

from funpipe.schedules import (
    ZBV,
    DualPipeV,
    Eager1F1B,
    GPipe,
    Interleaved1F1B,
    InterleavedZeroBubble,
    LoopedBFS,
    OneFOneB,
    Schedule,
    VHalf,
    VMin,
    ZeroBubbleH1,
    ZeroBubbleH2,
)

SCHEDULES: tuple[Schedule, ...] = (
    OneFOneB(),
    Eager1F1B(),
    GPipe(),
    ZeroBubbleH1(),
    ZeroBubbleH2(),
    *(Interleaved1F1B(stages_per_rank=v) for v in (2, 4)),
    *(InterleavedZeroBubble(stages_per_rank=v) for v in (2, 4)),
    *(LoopedBFS(stages_per_rank=v) for v in (2, 4)),
    ZBV(),
    VHalf(),
    VMin(),
    DualPipeV(),
)
"""The simplest first: of equally fast candidates the first is taken."""
