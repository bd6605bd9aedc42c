"""Pictures of schedules: the rows of any schedule class, with the waits that they cause, drawn."""

from funpipe.interop.pipelining._schedule_visualizer.draw import visualize_schedule as visualize_schedule
from funpipe.interop.pipelining._schedule_visualizer.looks import _ComputationTypeVisual as _ComputationTypeVisual
from funpipe.interop.pipelining._schedule_visualizer.looks import (
    action_type_to_color_mapping as action_type_to_color_mapping,
)
from funpipe.interop.pipelining._schedule_visualizer.ops import get_schedule_ops as get_schedule_ops
from funpipe.interop.pipelining._schedule_visualizer.spacing import add_schedule_op_spacing as add_schedule_op_spacing
