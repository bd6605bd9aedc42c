"""The same actions in eager mode, for stages of which no program can be made.

A stage that reads values out of tensors (`.item()`, `if mask.any():`), or whose results have sizes that depend on them
(`x[mask]`), runs as it is written, microbatch after microbatch.
"""

import warnings
from typing import Any

from torch import Tensor

from funpipe.interop.pipelining.engine import Call
from funpipe.interop.pipelining.engine.exchange import Ranks
from funpipe.interop.pipelining.errors import Untraceable
from funpipe.interop.pipelining.schedules.grid import Rows, busy
from funpipe.interop.pipelining.schedules.runtime import _PipelineScheduleRuntime
from funpipe.interop.pipelining.trees import flatten, unflatten


class EagerSchedule(_PipelineScheduleRuntime):
    """What walks the rows of another schedule action by action."""

    @staticmethod
    def of(schedule: Any, rows: Rows, reason: Untraceable) -> "EagerSchedule":
        """The same stages, options and computations; says that it is slower.

        Args:
            schedule: the other one.
            rows: its actions, with communication or without.
            reason: why no program can be made.
        """
        warnings.warn(
            f"the schedule runs its stages in eager mode, action by action, which is slower than a program: {reason}",
            stacklevel=6,
        )
        made = EagerSchedule(
            schedule._local_stages,
            schedule._n_microbatches,
            schedule._loss_fn,
            schedule._args_chunk_spec,
            schedule._kwargs_chunk_spec,
            schedule._output_merge_spec,
            scale_grads=schedule.scale_grads,
            backward_requires_autograd=schedule._backward_requires_autograd,
            pass_stage_and_microbatch_indices=schedule.pass_stage_and_microbatch_indices,
        )
        computations = {rank: [a for a in busy(row) if a.is_compute_op] for rank, row in rows.items()}
        made._prepare_schedule_with_comms(computations)
        return made

    def run(self, call: Call, training: bool, losses: list[Any] | None, return_outputs: bool) -> Any:
        """Runs one step; all ranks call it.

        Args:
            call: this rank's arguments.
            training: whether gradients are computed.
            losses: is cleared and filled with the loss of every microbatch, where the last stage is.
            return_outputs: whether to return what the last stage does.

        Returns:
            The merged outputs on the rank of the last stage, else None.
        """
        self._has_backward = training
        return self._run(call, losses, return_outputs)

    def _walks(self) -> bool:
        return True

    def _in_microbatches(self, call: Call) -> tuple[list[Any], list[Any], list[Any] | None]:
        args, kwargs, targets = super()._in_microbatches(call)
        if all(stage.wiring is None for stage in self._stages) or self.pp_group_size == 1:
            return args, kwargs, targets
        ranks = Ranks(self._stages[0].group, self.pp_group_size, self.rank)
        given = ranks.tell(self.stage_index_to_group_rank[0], lambda: _without_history((args, kwargs)))
        if not any(stage.is_first for stage in self._stages):
            args, kwargs = given[0], [{**all_of, **own} for all_of, own in zip(given[1], kwargs, strict=True)]
        return args, kwargs, targets


def _without_history(tree: Any) -> Any:
    """The arguments of the first rank as other ranks get them: stages of a traced model read any of them."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves])
