"""The interface of torch.distributed.pipelining on funpipe's programs: change the import line, keep the code."""

from funpipe.interop.pipelining._IR import Pipe as Pipe
from funpipe.interop.pipelining._IR import SplitPoint as SplitPoint
from funpipe.interop.pipelining._IR import pipe_split as pipe_split
from funpipe.interop.pipelining._IR import pipeline as pipeline
from funpipe.interop.pipelining.schedules import Schedule1F1B as Schedule1F1B
from funpipe.interop.pipelining.schedules import ScheduleDualPipeV as ScheduleDualPipeV
from funpipe.interop.pipelining.schedules import ScheduleGPipe as ScheduleGPipe
from funpipe.interop.pipelining.schedules import ScheduleInterleaved1F1B as ScheduleInterleaved1F1B
from funpipe.interop.pipelining.schedules import ScheduleInterleavedZeroBubble as ScheduleInterleavedZeroBubble
from funpipe.interop.pipelining.schedules import ScheduleLoopedBFS as ScheduleLoopedBFS
from funpipe.interop.pipelining.schedules import ScheduleZBVZeroBubble as ScheduleZBVZeroBubble
from funpipe.interop.pipelining.schedules import _ScheduleForwardOnly as _ScheduleForwardOnly
from funpipe.interop.pipelining.stage import PipelineStage as PipelineStage
from funpipe.interop.pipelining.stage import build_stage as build_stage

__all__ = [
    "Pipe",
    "PipelineStage",
    "Schedule1F1B",
    "ScheduleDualPipeV",
    "ScheduleGPipe",
    "ScheduleInterleaved1F1B",
    "ScheduleInterleavedZeroBubble",
    "ScheduleLoopedBFS",
    "ScheduleZBVZeroBubble",
    "SplitPoint",
    "build_stage",
    "pipe_split",
    "pipeline",
]
