"""Schedules: actions, passes over rows of them, and the classes that run them."""

from funpipe.interop.pipelining.schedules.action import _Action as _Action
from funpipe.interop.pipelining.schedules.action import _get_profiler_function_name as _get_profiler_function_name
from funpipe.interop.pipelining.schedules.base import _PipelineSchedule as _PipelineSchedule
from funpipe.interop.pipelining.schedules.batch_p2p import _batch_p2p as _batch_p2p
from funpipe.interop.pipelining.schedules.batch_p2p import _sorted_batch_p2p as _sorted_batch_p2p
from funpipe.interop.pipelining.schedules.batch_p2p import _wait_batch_p2p as _wait_batch_p2p
from funpipe.interop.pipelining.schedules.chrometrace import _dump_chrometrace as _dump_chrometrace
from funpipe.interop.pipelining.schedules.computation_type import BACKWARD_INPUT as BACKWARD_INPUT
from funpipe.interop.pipelining.schedules.computation_type import BACKWARD_WEIGHT as BACKWARD_WEIGHT
from funpipe.interop.pipelining.schedules.computation_type import FORWARD as FORWARD
from funpipe.interop.pipelining.schedules.computation_type import FULL_BACKWARD as FULL_BACKWARD
from funpipe.interop.pipelining.schedules.computation_type import OVERLAP_F_B as OVERLAP_F_B
from funpipe.interop.pipelining.schedules.computation_type import RECV_B as RECV_B
from funpipe.interop.pipelining.schedules.computation_type import RECV_F as RECV_F
from funpipe.interop.pipelining.schedules.computation_type import REDUCE_GRAD as REDUCE_GRAD
from funpipe.interop.pipelining.schedules.computation_type import RESHARD as RESHARD
from funpipe.interop.pipelining.schedules.computation_type import SEND_B as SEND_B
from funpipe.interop.pipelining.schedules.computation_type import SEND_F as SEND_F
from funpipe.interop.pipelining.schedules.computation_type import UNSHARD as UNSHARD
from funpipe.interop.pipelining.schedules.computation_type import B as B
from funpipe.interop.pipelining.schedules.computation_type import F as F
from funpipe.interop.pipelining.schedules.computation_type import I as I
from funpipe.interop.pipelining.schedules.computation_type import W as W
from funpipe.interop.pipelining.schedules.computation_type import _ComputationType as _ComputationType
from funpipe.interop.pipelining.schedules.computation_type import _requires_reduce_grad as _requires_reduce_grad
from funpipe.interop.pipelining.schedules.custom import _CustomFunctionProtocol as _CustomFunctionProtocol
from funpipe.interop.pipelining.schedules.custom import _PipelineContext as _PipelineContext
from funpipe.interop.pipelining.schedules.defer_recv import _defer_recv_ops as _defer_recv_ops
from funpipe.interop.pipelining.schedules.formatting import _format_pipeline_order as _format_pipeline_order
from funpipe.interop.pipelining.schedules.forward_only import _ScheduleForwardOnly as _ScheduleForwardOnly
from funpipe.interop.pipelining.schedules.gpipe import ScheduleGPipe as ScheduleGPipe
from funpipe.interop.pipelining.schedules.interleaved import ScheduleInterleaved1F1B as ScheduleInterleaved1F1B
from funpipe.interop.pipelining.schedules.interleaved import (
    ScheduleInterleavedZeroBubble as ScheduleInterleavedZeroBubble,
)
from funpipe.interop.pipelining.schedules.looped_bfs import ScheduleLoopedBFS as ScheduleLoopedBFS
from funpipe.interop.pipelining.schedules.merge_bw import _merge_bw as _merge_bw
from funpipe.interop.pipelining.schedules.multi import PipelineScheduleMulti as PipelineScheduleMulti
from funpipe.interop.pipelining.schedules.one_f_one_b import Schedule1F1B as Schedule1F1B
from funpipe.interop.pipelining.schedules.reduce_grad import _add_reduce_grad as _add_reduce_grad
from funpipe.interop.pipelining.schedules.registry import get_schedule_class as get_schedule_class
from funpipe.interop.pipelining.schedules.runtime import _PipelineScheduleRuntime as _PipelineScheduleRuntime
from funpipe.interop.pipelining.schedules.send_recv import _add_send_recv as _add_send_recv
from funpipe.interop.pipelining.schedules.simulate import _simulate_comms_compute as _simulate_comms_compute
from funpipe.interop.pipelining.schedules.single import PipelineScheduleSingle as PipelineScheduleSingle
from funpipe.interop.pipelining.schedules.tables import order_of as order_of
from funpipe.interop.pipelining.schedules.tables import table_of as table_of
from funpipe.interop.pipelining.schedules.unshard_reshard import _add_unshard_reshard as _add_unshard_reshard
from funpipe.interop.pipelining.schedules.v_shaped import ScheduleDualPipeV as ScheduleDualPipeV
from funpipe.interop.pipelining.schedules.v_shaped import ScheduleZBVZeroBubble as ScheduleZBVZeroBubble
from funpipe.interop.pipelining.schedules.validate import _validate_schedule as _validate_schedule

__all__ = [
    "PipelineScheduleMulti",
    "PipelineScheduleSingle",
    "Schedule1F1B",
    "ScheduleDualPipeV",
    "ScheduleGPipe",
    "ScheduleInterleaved1F1B",
    "ScheduleInterleavedZeroBubble",
    "ScheduleLoopedBFS",
    "ScheduleZBVZeroBubble",
    "get_schedule_class",
]
