"""The base of schedules with one stage on each rank."""

from collections.abc import Callable
from typing import Any

import torch

import funpipe as fp
from funpipe.interop.pipelining.errors import PipeNotImplementedError
from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.base import _PipelineSchedule
from funpipe.interop.pipelining.schedules.grid import Rows
from funpipe.interop.pipelining.schedules.reduce_grad import _add_reduce_grad
from funpipe.interop.pipelining.schedules.tables import order_of
from funpipe.schedules import Table


class PipelineScheduleSingle(_PipelineSchedule):
    """A schedule with one stage on each rank: stage s on rank s.

    A subclass gives `_get_pipeline_order`, or runs microbatches by itself in `_step_microbatches`.

    Args:
        stage: the stage of this rank.

    The other arguments are those of `_PipelineSchedule`.
    """

    def __init__(
        self,
        stage: Any,
        n_microbatches: int,
        loss_fn: Callable[..., torch.Tensor] | None = None,
        args_chunk_spec: tuple[Any, ...] | None = None,
        kwargs_chunk_spec: dict[str, Any] | None = None,
        output_merge_spec: dict[str, Any] | tuple[Any] | None = None,
        scale_grads: bool = True,
        *,
        backend: str = "step",
        optimizer: fp.optim.Optimizer | None = None,
        pass_stage_and_microbatch_indices: bool = False,
    ) -> None:
        super().__init__(
            n_microbatches,
            loss_fn,
            args_chunk_spec,
            kwargs_chunk_spec,
            output_merge_spec,
            scale_grads,
            backend=backend,
            optimizer=optimizer,
            pass_stage_and_microbatch_indices=pass_stage_and_microbatch_indices,
        )
        self._stage = stage
        self._num_stages: int = stage.num_stages
        self._stage.has_backward = self._has_backward
        self.pipeline_order: dict[int, list[_Action | None]] | None = self._get_pipeline_order()

    @property
    def _local_stages(self) -> list[Any]:
        return [self._stage]

    def _get_pipeline_order(self) -> dict[int, list[_Action | None]] | None:
        """For each rank its actions, None where it is idle; None where a subclass runs microbatches by itself."""
        return None

    def _order(self) -> Rows:
        if self.pipeline_order is None:
            raise PipeNotImplementedError(
                f"{type(self).__name__} has no pipeline_order; return one from _get_pipeline_order, or run the "
                "microbatches in _step_microbatches."
            )
        return self.pipeline_order

    def _stage_to_rank(self) -> dict[int, int]:
        return {stage: stage for stage in range(self._num_stages)}

    def _order_of(self, table: Table) -> dict[int, list[_Action | None]]:
        """The rows of a table, with REDUCE_GRAD."""
        return {rank: _add_reduce_grad(row, self._n_microbatches) for rank, row in order_of(table).items()}
