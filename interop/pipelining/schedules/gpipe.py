"""GPipe: all forwards, then all backwards."""

import funpipe as fp
from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.single import PipelineScheduleSingle


class ScheduleGPipe(PipelineScheduleSingle):
    """All microbatches go forward, then all of them backward; its table is `fp.schedules.GPipe`'s."""

    def _get_pipeline_order(self) -> dict[int, list[_Action | None]]:
        return self._order_of(fp.schedules.GPipe().table(self._num_stages, self._n_microbatches))
