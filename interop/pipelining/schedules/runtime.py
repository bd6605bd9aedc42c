"""The base of schedules whose rows have communication too; runs a user's `pipeline_order_with_comms`."""

import warnings
from collections import Counter, defaultdict
from typing import Any

from funpipe.interop.pipelining.engine import Call
from funpipe.interop.pipelining.errors import PipeAssertionError, PipeNotImplementedError, PipeValueError
from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.computation_type import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    FULL_BACKWARD,
    OVERLAP_F_B,
    REDUCE_GRAD,
    RESHARD,
    UNSHARD,
    _ComputationType,
)
from funpipe.interop.pipelining.schedules.csv_files import read_csv, write_csv
from funpipe.interop.pipelining.schedules.custom import _CustomFunctionProtocol
from funpipe.interop.pipelining.schedules.grid import Rows, busy
from funpipe.interop.pipelining.schedules.lowering import lower
from funpipe.interop.pipelining.schedules.multi import Format, PipelineScheduleMulti, require_compute_only
from funpipe.interop.pipelining.schedules.simulate import _simulate_comms_compute
from funpipe.interop.pipelining.schedules.tables import table_of

CUSTOM = (FORWARD, FULL_BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, OVERLAP_F_B, UNSHARD, RESHARD, REDUCE_GRAD)
"""The kinds of actions that a user's function may stand for."""


class _PipelineScheduleRuntime(PipelineScheduleMulti):
    """A schedule whose rows have communication too.

    It runs `pipeline_order_with_comms`, for each rank a list of actions, which `_prepare_schedule_with_comms` sets. The
    compiled step places its own communication: that of the rows is checked against their computations. With a custom
    function the rows are walked action by action instead.

    Args:
        *args, **kwargs: those of `PipelineScheduleMulti`.
        defer_pp_recv: whether receives are moved to where their values are needed.
        max_active_stages: stages of a rank whose parameters are there at once.
    """

    def __init__(self, *args: Any, defer_pp_recv: bool = False, max_active_stages: int = 3, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._defer_pp_recv = defer_pp_recv
        self._max_active_stages = max_active_stages
        self.pipeline_order_with_comms: dict[int, list[_Action]] = {}
        # How many custom functions there were when the ranks asked each other, and whether they walk.
        self._walking: tuple[int, bool] | None = None
        # What custom functions read and write while the rows are walked.
        self.backward_counter: Counter[int] = Counter()
        self.fwd_recv_ops: dict[tuple[int, int], list[Any]] = {}
        self.bwd_recv_ops: dict[tuple[int, int], list[Any]] = {}
        self.unshard_ops: dict[int, list[Any]] = defaultdict(list)
        self.unsharded_stages: set[int] = set()

    def register_custom_function(
        self, computation_type: _ComputationType, custom_function: _CustomFunctionProtocol
    ) -> None:
        """Calls a function instead of what the schedule itself does for a kind of action.

        Args:
            computation_type: F, B, I, W, OVERLAP_F_B, UNSHARD, RESHARD or REDUCE_GRAD.
            custom_function: called with the action and a `_PipelineContext`. After the first step all ranks register
                theirs before the next one; until then one rank may have functions that others do not.

        Raises:
            PipeValueError: another kind.
        """
        if computation_type not in CUSTOM:
            raise PipeValueError(
                f"Invalid computation type {computation_type}. Only "
                f"{', '.join(kind.name for kind in CUSTOM)} are supported."
            )
        if computation_type in self._comp_type_to_function_map:
            text = (
                f"Computation type {computation_type} is already registered. Overwriting the existing custom function."
            )
            warnings.warn(text, UserWarning, stacklevel=2)
        self._comp_type_to_function_map[computation_type] = custom_function

    def _prepare_schedule_with_comms(self, actions: Rows, format: Format = "compute_only") -> None:
        """Sets `pipeline_order_with_comms`, and puts each stage on the rank whose row has it.

        Args:
            actions: for each rank its actions; left as they are.
            format: "compute_only": communication is added; "compute_comms": it is there, and fits the computations.

        Raises:
            PipeAssertionError: they are no schedule of these ranks, stages and microbatches; ranks wait for each other;
                communication does not fit.
            PipeNotImplementedError: another format.
            PipeValueError: "compute_only" rows have communication.
        """
        self._validate_and_set_stage_mapping(actions)
        if format == "compute_comms":
            table_of(actions, self.stage_index_to_group_rank)
            self.pipeline_order_with_comms = {rank: busy(row) for rank, row in actions.items()}
        elif format == "compute_only":
            require_compute_only(actions)
            self.pipeline_order_with_comms = lower(
                actions,
                self._rank_of,
                self._num_stages,
                self._n_microbatches,
                self._max_active_stages,
                self._defer_pp_recv,
            )
        else:
            raise _unknown(format)

    def _load_csv(self, filename: str, format: Format = "compute_only") -> None:
        """Reads rows from CSV; see `_prepare_schedule_with_comms`.

        Args:
            filename: of the file.
            format: what is in it.

        Raises:
            PipeRuntimeError: a cell is no action; the others as `_prepare_schedule_with_comms`.
        """
        if format not in ("compute_only", "compute_comms"):
            raise _unknown(format)
        rows = read_csv(filename)
        self._prepare_schedule_with_comms(rows, format)
        self.pipeline_order = rows if format == "compute_only" else _computations(rows)

    def _dump_csv(self, filename: str, format: Format = "compute_comms") -> None:
        """Writes rows as CSV: a line for each rank.

        Args:
            filename: of the file, which is overwritten.
            format: "compute_only": `pipeline_order`; "compute_comms": `pipeline_order_with_comms`.

        Raises:
            PipeAssertionError: these rows are not there yet.
            PipeNotImplementedError: another format.
        """
        if format not in ("compute_only", "compute_comms"):
            raise _unknown(format)
        rows = self.pipeline_order if format == "compute_only" else self.pipeline_order_with_comms
        if not rows:
            what = "Compute only schedule must be available" if format == "compute_only" else _NOT_PREPARED
            raise PipeAssertionError(f"{what}; call _load_csv or _prepare_schedule_with_comms.")
        write_csv(rows, filename)

    def _simulate(self) -> dict[int, list[_Action | None]]:
        """The rows at their steps; see `_simulate_comms_compute`."""
        return _simulate_comms_compute(self._order(), self._rank_of, self._num_stages)

    def _rank_of(self, stage: int) -> int:
        return self.stage_index_to_group_rank[stage]

    def _order(self) -> Rows:
        if not self.pipeline_order_with_comms:
            raise PipeAssertionError("Must call _prepare_schedule_with_comms() before calling _step_microbatches()")
        return self.pipeline_order_with_comms

    def _walks(self) -> bool:
        """Whether any rank has a custom function. The ranks ask each other once, and again after a registration."""
        # The walk knows actions and contexts, so it imports this package.
        from funpipe.interop.pipelining.walking import on_any_rank

        here = len(self._comp_type_to_function_map)
        if self._walking is None or self._walking[0] != here:
            self._walking = here, on_any_rank(here > 0, self._stages[0].group)
        return self._walking[1]

    def _in_microbatches(self, call: Call) -> tuple[list[Any], list[Any], list[Any] | None]:
        from funpipe.interop.pipelining.walking import together

        with together(self._stages[0].group):
            return super()._in_microbatches(call)

    def _walk(
        self,
        arg_mbs: list[tuple[Any, ...]],
        kwarg_mbs: list[dict[str, Any]],
        target_mbs: list[Any] | None,
        losses: list[Any] | None,
        return_outputs: bool,
        loss_kwargs: dict[str, Any] | None,
    ) -> Any:
        from funpipe.interop.pipelining.walking import walk

        self._order()
        walked = walk(self, arg_mbs, kwarg_mbs, target_mbs, loss_kwargs)
        if losses is not None and walked.losses is not None:
            losses[:] = walked.losses
        return self._merge_outputs(walked.outputs) if return_outputs and walked.outputs is not None else None


_NOT_PREPARED = "Must initialize compute_comms schedule before dump_csv"


def _computations(rows: Rows) -> dict[int, list[_Action | None]]:
    return {rank: [action for action in busy(row) if action.is_compute_op] for rank, row in rows.items()}


def _unknown(format: object) -> PipeNotImplementedError:
    return PipeNotImplementedError(f"{format=} is not implemented; use 'compute_only' or 'compute_comms'.")
