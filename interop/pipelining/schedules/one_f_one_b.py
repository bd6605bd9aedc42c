"""1F1B: one forward and one backward in turns."""

import funpipe as fp
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.single import PipelineScheduleSingle


class Schedule1F1B(PipelineScheduleSingle):
    """A few forwards, then one forward and one backward in turns; its table is `fp.schedules.OneFOneB`'s.

    Raises:
        PipeValueError: there are fewer microbatches than stages.
    """

    def _get_pipeline_order(self) -> dict[int, list[_Action | None]]:
        if self._n_microbatches < self._num_stages:
            raise PipeValueError(
                f"Number of microbatches ({self._n_microbatches}) must be greater than or equal to the number of "
                f"stages ({self._num_stages}); use n_microbatches={self._num_stages}."
            )
        return self._order_of(fp.schedules.OneFOneB().table(self._num_stages, self._n_microbatches))
