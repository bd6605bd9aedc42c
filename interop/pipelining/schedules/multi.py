"""The base of schedules with any number of stages on each rank, which runs the rows of a user's `pipeline_order`."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

import funpipe as fp
from funpipe.interop.pipelining._utils import generate_stage_to_rank_mapping
from funpipe.interop.pipelining.errors import PipeAssertionError, PipeIndexError, PipeValueError
from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.base import _PipelineSchedule
from funpipe.interop.pipelining.schedules.csv_files import read_csv, write_csv
from funpipe.interop.pipelining.schedules.grid import Rows
from funpipe.interop.pipelining.schedules.validate import _validate_schedule

Format = Literal["compute_only", "compute_comms"]
"""What is in rows or in a file: computations alone, or communication too."""


class PipelineScheduleMulti(_PipelineSchedule):
    """A schedule with any number of stages on each rank.

    It runs `pipeline_order`, for each rank a list of actions and of None where it is idle. A subclass sets it and calls
    `_validate_and_set_stage_mapping` with it; until then stage s is on rank s mod p.

    Args:
        stages: the stages of this rank.
        use_full_backward: ignored; the actions say whether backwards are split.
        backward_requires_autograd: whether `step` is refused where gradients are disabled.

    The other arguments are those of `_PipelineSchedule`.

    Raises:
        PipeIndexError: there is no stage.
    """

    def __init__(
        self,
        stages: list[Any],
        n_microbatches: int,
        loss_fn: Callable[..., torch.Tensor] | None = None,
        args_chunk_spec: tuple[Any, ...] | None = None,
        kwargs_chunk_spec: dict[str, Any] | None = None,
        output_merge_spec: dict[str, Any] | tuple[Any] | None = None,
        use_full_backward: bool | None = None,
        scale_grads: bool = True,
        backward_requires_autograd: bool = True,
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
        if use_full_backward is not None:
            text = "use_full_backward does nothing: the actions say whether backwards are split; leave it out."
            warnings.warn(text, FutureWarning, stacklevel=2)
        if not stages:
            raise PipeIndexError("stages is empty; pass the stages of this rank.")
        self._stages = stages
        self._num_stages: int = stages[0].num_stages
        self.pp_group_size: int = stages[0].group_size
        self.rank: int = stages[0].group_rank
        self._backward_requires_autograd = backward_requires_autograd
        self.pipeline_order: dict[int, list[_Action | None]] = {}
        self._set_stage_mapping(generate_stage_to_rank_mapping(self.pp_group_size, self._num_stages))
        for stage in stages:
            stage.has_backward = self._has_backward

    @property
    def _local_stages(self) -> list[Any]:
        return self._stages

    def _order(self) -> Rows:
        if not self.pipeline_order:
            raise PipeAssertionError(f"{type(self).__name__} has no pipeline_order; set it, or load it with _load_csv.")
        return self.pipeline_order

    def _stage_to_rank(self) -> dict[int, int]:
        return self.stage_index_to_group_rank

    def _set_stage_mapping(self, ranks: dict[int, int]) -> None:
        self.stage_index_to_group_rank = ranks
        for stage in self._stages:
            stage.stage_index_to_group_rank = ranks

    def _validate_and_set_stage_mapping(self, actions: Rows) -> None:
        """Checks rows of computations, and puts each stage on the rank whose row has it.

        Args:
            actions: for each rank its actions; left as they are.

        Raises:
            PipeAssertionError: they are no schedule of these ranks, stages and microbatches.
        """
        sizes = self.pp_group_size, self._num_stages, self._n_microbatches
        self._set_stage_mapping(_validate_schedule(actions, *sizes))

    def _dump_csv(self, filename: str) -> None:
        """Writes `pipeline_order` as CSV: a line for each rank.

        Args:
            filename: of the file, which is overwritten.
        """
        write_csv(self.pipeline_order, filename)

    def _load_csv(self, filename: str, format: Format = "compute_only") -> None:
        """Reads `pipeline_order` from CSV.

        Args:
            filename: of the file.
            format: only "compute_only".

        Raises:
            PipeAssertionError: another format, or the rows are no schedule of this one's sizes.
            PipeRuntimeError: a cell is no action.
            PipeValueError: a cell is communication.
        """
        if format != "compute_only":
            raise PipeAssertionError(
                f'format must be "compute_only", got {format}; load communication with _PipelineScheduleRuntime.'
            )
        rows = read_csv(filename)
        require_compute_only(rows)
        self._validate_and_set_stage_mapping(rows)
        self.pipeline_order = rows


def require_compute_only(rows: Rows) -> None:
    """Rows of computations have nothing else.

    Raises:
        PipeValueError: an action communicates.
    """
    for rank, row in rows.items():
        for position, action in enumerate(row):
            if action is not None and not action.is_compute_op:
                raise PipeValueError(
                    f"Expected compute-only schedule but found communication action '{action}' at rank {rank}, "
                    f"position {position}. Communication actions (e.g. SEND_F, RECV_F, etc.) should not be present "
                    "when format='compute_only'."
                )
