"""Looped BFS: all microbatches through a rank's first stage, then all through its next one."""

from collections.abc import Callable
from typing import Any

import torch

import funpipe as fp
from funpipe.interop.pipelining.schedules.tabled import TabledSchedule
from funpipe.schedules import Table


class ScheduleLoopedBFS(TabledSchedule):
    """Breadth first over several stages on each rank, in a loop; its table is `fp.schedules.LoopedBFS`'s.

    Backwards go through the microbatches in ascending order, as forwards do: gradients are accumulated in one order
    under every schedule.

    Args:
        stages: the stages of this rank.

    The other arguments are those of `TabledSchedule`; there are no chunk specs.
    """

    def __init__(
        self,
        stages: list[Any],
        n_microbatches: int,
        loss_fn: Callable[..., torch.Tensor] | None = None,
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
            output_merge_spec=output_merge_spec,
            scale_grads=scale_grads,
            backward_requires_autograd=backward_requires_autograd,
            defer_pp_recv=defer_pp_recv,
            backend=backend,
            optimizer=optimizer,
            pass_stage_and_microbatch_indices=pass_stage_and_microbatch_indices,
        )

    def _table(self) -> Table:
        return fp.schedules.LoopedBFS(self.n_local_stages).table(self.pp_group_size, self._n_microbatches)
