"""What the actions that compute do: the user's own function, or the forward or backward of a stage."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from funpipe.interop.pipelining.schedules import _Action, _ComputationType, _PipelineContext

Kind = _ComputationType
_BACKWARDS = (Kind.FULL_BACKWARD, Kind.BACKWARD_INPUT, Kind.BACKWARD_WEIGHT)
_TRAINING = (*_BACKWARDS, Kind.OVERLAP_F_B, Kind.REDUCE_GRAD)


@dataclass(frozen=True)
class Computing:
    """The computations of one rank in one step.

    Args:
        schedule: what custom functions know the step by.
        context: what custom functions are given.
        loss_kwargs: keywords of the loss function.
        functions: custom functions by the kind of action that they stand for.
        stages: this rank's stages by their index.
        has_backward: whether there are gradients.
    """

    schedule: Any
    context: _PipelineContext
    loss_kwargs: Mapping[str, Any] | None
    functions: Mapping[Kind, Callable[..., None]]
    stages: Mapping[int, Any]
    has_backward: bool

    def is_custom(self, action: _Action) -> bool:
        """Whether the user's function runs an action; in an evaluation none that would go back."""
        kind = action.computation_type
        return kind in self.functions and (self.has_backward or kind not in _TRAINING)

    def run(self, action: _Action) -> None:
        """Runs an action that computes; nothing is done for the others, unless a custom function does it."""
        kind = action.computation_type
        if self.is_custom(action):
            self.functions[kind](action, self.context)
        elif kind == Kind.FORWARD:
            self._forward(self.stages[action.stage_index], microbatch_of(action))
        elif kind in _BACKWARDS and self.has_backward:
            self._backward(self.stages[action.stage_index], microbatch_of(action), kind)

    def _forward(self, stage: Any, microbatch: int) -> None:
        _wait(self.schedule.fwd_recv_ops, stage, microbatch)
        args, kwargs = _of(self.context.arg_mbs, microbatch, ()), _of(self.context.kwarg_mbs, microbatch, {})
        if self.schedule.pass_stage_and_microbatch_indices:
            kwargs = {**kwargs, "stage_idx": stage.stage_index, "mb_idx": microbatch}
        output = stage.forward_one_chunk(microbatch, args, kwargs)
        self.schedule._maybe_compute_loss(stage, output, self.context.target_mbs, microbatch, self.loss_kwargs)

    def _backward(self, stage: Any, microbatch: int, kind: Kind) -> None:
        counter = self.schedule.backward_counter
        counter[stage.stage_index] += kind != Kind.BACKWARD_INPUT
        last = counter[stage.stage_index] == self.schedule._n_microbatches
        if kind == Kind.BACKWARD_WEIGHT:
            stage.backward_weight_one_chunk(microbatch, last_backward=last)
            return
        _wait(self.schedule.bwd_recv_ops, stage, microbatch)
        whole = kind == Kind.FULL_BACKWARD
        loss = self.schedule._maybe_get_loss(stage, microbatch)
        stage.backward_one_chunk(microbatch, loss=loss, full_backward=whole, last_backward=whole and last)


def microbatch_of(action: _Action) -> int:
    """The microbatch of an action; 0 where there is none."""
    return action.microbatch_index or 0


def _of(microbatches: list[Any] | None, index: int, nothing: Any) -> Any:
    return nothing if microbatches is None else microbatches[index]


def _wait(waited_for: dict[tuple[int, int], list[Any]], stage: Any, microbatch: int) -> None:
    for work in waited_for.pop((stage.stage_index, microbatch), []):
        work.wait()
