"""The schedule that only runs forwards."""

from typing import Any

import funpipe as fp
from funpipe.interop.pipelining.engine import Call
from funpipe.interop.pipelining.errors import PipeRuntimeError
from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.single import PipelineScheduleSingle
from funpipe.interop.pipelining.schedules.tables import order_of


class _ScheduleForwardOnly(PipelineScheduleSingle):
    """All microbatches go forward; there is no loss and no gradient."""

    _trains = False

    def _get_pipeline_order(self) -> dict[int, list[_Action | None]]:
        return order_of(fp.schedules.ForwardOnly().table(self._num_stages, self._n_microbatches))

    def _require_losses(self, call: Call, losses: list[Any] | None) -> None:
        if call.target is not None or call.target_mbs is not None or losses is not None:
            raise PipeRuntimeError(
                "Forward-only schedule does not support loss computation; leave target and losses out, or use another "
                "schedule's eval()."
            )
