"""The base of the schedules that are named after their papers: a table of funpipe gives their rows."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch

import funpipe as fp
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.schedules.runtime import _PipelineScheduleRuntime
from funpipe.interop.pipelining.schedules.tables import order_of
from funpipe.schedules import Table


class TabledSchedule(_PipelineScheduleRuntime):
    """A schedule whose rows are those of a table.

    Args:
        stages: the stages of this rank.
        backward_requires_autograd: whether `step` is refused where gradients are disabled.
        defer_pp_recv: whether `pipeline_order_with_comms` has receives where their values are needed, or early.

    The other arguments are those of `_PipelineSchedule`.

    Raises:
        PipeValueError: the schedule does not exist for so many stages or microbatches.
    """

    def __init__(
        self,
        stages: list[Any],
        n_microbatches: int,
        loss_fn: Callable[..., torch.Tensor] | None = None,
        args_chunk_spec: tuple[Any, ...] | None = None,
        kwargs_chunk_spec: dict[str, Any] | None = None,
        output_merge_spec: dict[str, Any] | tuple[Any] | None = None,
        scale_grads: bool = True,
        backward_requires_autograd: bool = True,
        defer_pp_recv: bool = False,
        *,
        backend: str = "step",
        optimizer: fp.optim.Optimizer | None = None,
        pass_stage_and_microbatch_indices: bool = False,
    ) -> None:
        super().__init__(
            stages,
            n_microbatches,
            loss_fn,
            args_chunk_spec,
            kwargs_chunk_spec,
            output_merge_spec,
            scale_grads=scale_grads,
            backward_requires_autograd=backward_requires_autograd,
            defer_pp_recv=defer_pp_recv,
            backend=backend,
            optimizer=optimizer,
            pass_stage_and_microbatch_indices=pass_stage_and_microbatch_indices,
        )
        self.n_local_stages = len(stages)
        table = self._table()
        if table.num_stages != self._num_stages:
            raise PipeValueError(
                f"{self.n_local_stages} stages on each of {self.pp_group_size} ranks are {table.num_stages} stages, "
                f"but num_stages is {self._num_stages}; pass all stages of this rank."
            )
        self.pipeline_order = order_of(table)
        self._prepare_schedule_with_comms(self.pipeline_order)

    @abstractmethod
    def _table(self) -> Table:
        """The table for this schedule's ranks, stages and microbatches."""

    def _require_two_stages(self, name: str) -> None:
        if self.n_local_stages != 2:
            raise PipeValueError(
                f"{name} requires exactly 2 stages per rank, but got {self.n_local_stages}; pass stages r and "
                "n - 1 - r on rank r, of n."
            )
