"""What a user's own function for a kind of action is given, and must look like."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from funpipe.interop.pipelining.schedules.action import _Action

if TYPE_CHECKING:
    from funpipe.interop.pipelining.schedules.base import _PipelineSchedule


@dataclass
class _PipelineContext:
    """What a custom function works with.

    Args:
        schedule_ref: the schedule that runs.
        arg_mbs: the positional arguments of each microbatch.
        kwarg_mbs: the keyword arguments of each microbatch.
        target_mbs: the target of each microbatch.
        losses: where the losses go.
    """

    schedule_ref: "_PipelineSchedule"
    arg_mbs: list[tuple[Any, ...]] | None = None
    kwarg_mbs: list[dict[str, Any]] | None = None
    target_mbs: list[Any] | None = None
    losses: list[Any] | None = None


class _CustomFunctionProtocol(Protocol):
    """A function that a schedule calls instead of what it does itself for a kind of action."""

    def __call__(self, action: _Action, ctx: _PipelineContext) -> None: ...
