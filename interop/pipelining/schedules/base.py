"""What every schedule class has: options, the two calls `step` and `eval`, and how a call is run."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

import funpipe as fp
from funpipe import FunpipeError
from funpipe.interop.pipelining.engine import Call, Options
from funpipe.interop.pipelining.errors import (
    PipeliningMetadataError,
    PipeNotImplementedError,
    PipeRuntimeError,
    Untraceable,
)
from funpipe.interop.pipelining.schedules.computation_type import _ComputationType
from funpipe.interop.pipelining.schedules.grid import Rows
from funpipe.interop.pipelining.schedules.inputs import require_call, require_count, require_list
from funpipe.interop.pipelining.schedules.losses import Losses
from funpipe.interop.pipelining.schedules.microbatches import Microbatches
from funpipe.interop.pipelining.schedules.running import Running, run


class _PipelineSchedule(Losses, Microbatches, ABC):
    """The base of all schedule classes.

    Args:
        n_microbatches: how many microbatches a step has.
        loss_fn: takes what the last stage returns and the target of a microbatch; None: `step` computes no gradients.
        args_chunk_spec: how positional arguments are split; None: tensors along dimension 0.
        kwargs_chunk_spec: how keyword arguments are split; None: tensors along dimension 0.
        output_merge_spec: how outputs are merged; None: tensors along dimension 0.
        scale_grads: whether gradients are means over the microbatches instead of sums.
        backend: what runs the programs: "interpret", "regions" or "step".
        optimizer: applied to the parameters as part of the step; None: the user's own, after it.
        pass_stage_and_microbatch_indices: whether modules are called with the keywords `stage_idx` and `mb_idx`.

    Raises:
        PipeValueError: `n_microbatches` is no integer from 1 on.
    """

    _trains = True
    _backward_requires_autograd = True
    _running: Running | None = None
    _eager: Any = None

    def __init__(
        self,
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
        self._n_microbatches = require_count(n_microbatches)
        self._loss_fn = loss_fn
        self.scale_grads = scale_grads
        self._args_chunk_spec = args_chunk_spec
        self._kwargs_chunk_spec = kwargs_chunk_spec
        self._output_merge_spec = output_merge_spec
        self._has_backward = self._trains and loss_fn is not None
        self._internal_losses: list[Any] = []
        self._backend = backend
        self._optimizer = optimizer
        self.pass_stage_and_microbatch_indices = pass_stage_and_microbatch_indices
        self._comp_type_to_function_map: dict[_ComputationType, Callable[..., None]] = {}

    @property
    @abstractmethod
    def _local_stages(self) -> list[Any]:
        """The stages of this rank."""

    @abstractmethod
    def _order(self) -> Rows:
        """What runs: for each rank its actions, with communication or without."""

    @abstractmethod
    def _stage_to_rank(self) -> dict[int, int]:
        """The rank of each stage."""

    def step(
        self,
        *args: Any,
        target: Any = None,
        losses: list[Any] | None = None,
        return_outputs: bool = True,
        loss_kwargs: dict[str, Any] | None = None,
        arg_mbs: list[tuple[Any, ...]] | None = None,
        kwarg_mbs: list[dict[str, Any]] | None = None,
        target_mbs: list[Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Runs forward and backward of all microbatches; gradients are added to the parameters' `.grad`.

        Without a `loss_fn` it is what `eval` is.

        Args:
            *args: the whole batch's positional arguments, on the rank of the first stage.
            target: the whole batch's target, on the rank of the last stage.
            losses: is cleared and filled with the loss of each microbatch, on the rank of the last stage.
            return_outputs: whether the last stage's outputs are wanted.
            loss_kwargs: passed to `loss_fn` with each microbatch.
            arg_mbs: instead of `args` those of each microbatch.
            kwarg_mbs: instead of `kwargs` those of each microbatch.
            target_mbs: instead of `target` that of each microbatch.
            **kwargs: the whole batch's keyword arguments, on every rank for its own stages.

        Returns:
            The merged outputs on the rank of the last stage, if they are wanted; None on others.

        Raises:
            PipeRuntimeError: gradients are disabled, or a stage failed.
            PipeTypeError, PipeValueError: what was given for each microbatch is no list, or not one for each.
            PipeliningMetadataError: the last stage has a `loss_fn` and no target.
        """
        call = Call(args, kwargs, target, loss_kwargs, arg_mbs, kwarg_mbs, target_mbs)
        return self._run(call, losses, return_outputs)

    def eval(
        self,
        *args: Any,
        target: Any = None,
        losses: list[Any] | None = None,
        return_outputs: bool = True,
        loss_kwargs: dict[str, Any] | None = None,
        arg_mbs: list[tuple[Any, ...]] | None = None,
        kwarg_mbs: list[dict[str, Any]] | None = None,
        target_mbs: list[Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Runs the forward of all microbatches; no gradient is computed, losses are where there is a target.

        Args, Returns and Raises are those of `step`, but gradients may be disabled, and the target may be missing.
        """
        trains, self._has_backward = self._has_backward, False
        try:
            call = Call(args, kwargs, target, loss_kwargs, arg_mbs, kwarg_mbs, target_mbs)
            return self._run(call, losses, return_outputs)
        finally:
            self._has_backward = trains

    def _run(self, call: Call, losses: list[Any] | None, return_outputs: bool) -> Any:
        """Runs a call: as it is in the engine, or in microbatches where something else runs them."""
        call = replace(call, error=self._error(call, losses))
        for stage in self._local_stages:
            stage.has_backward = self._has_backward
        own = type(self)._step_microbatches is _PipelineSchedule._step_microbatches
        if own and not self._walks():
            return self._call(call, losses, return_outputs)
        self._require_no_optimizer("runs microbatches by functions of the user's")
        if not own:
            for stage in self._local_stages:
                stage.clear_runtime_states()
        loss_kwargs = None if call.loss_kwargs is None else dict(call.loss_kwargs)
        return self._step_microbatches(*self._in_microbatches(call), losses, return_outputs, loss_kwargs)

    def _step_microbatches(
        self,
        arg_mbs: list[tuple[Any, ...]] | None = None,
        kwarg_mbs: list[dict[str, Any]] | None = None,
        target_mbs: list[Any] | None = None,
        losses: list[Any] | None = None,
        return_outputs: bool = True,
        loss_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs microbatches that are already split; a subclass may define what that means.

        Args and Returns are those of `step`.
        """
        if self._walks():
            found = self._check_inputs(arg_mbs, kwarg_mbs, target_mbs, losses)
            return self._walk(*found, target_mbs, losses, return_outputs, loss_kwargs)
        call = Call((), {}, None, loss_kwargs, arg_mbs, kwarg_mbs, target_mbs)
        return self._call(replace(call, error=self._error(call, losses)), losses, return_outputs)

    def _call(self, call: Call, losses: list[Any] | None, return_outputs: bool) -> Any:
        engine, error = self._engine()
        call = replace(call, error=call.error or error)
        if self._eager is None:
            try:
                return engine.step(call, training=self._has_backward, losses=losses, return_outputs=return_outputs)
            except Untraceable as reason:
                self._eager = self._in_eager_mode(reason)
        return self._eager.run(call, self._has_backward, losses, return_outputs)

    def _in_eager_mode(self, reason: Untraceable) -> Any:
        """What runs the same actions without a program; every rank is told of the reason, so all ranks do."""
        # It is a schedule itself, and imports this file.
        from funpipe.interop.pipelining.schedules.eager import EagerSchedule

        if self._optimizer is not None:
            raise reason
        return EagerSchedule.of(self, self._order(), reason)

    def _walks(self) -> bool:
        """Whether the rows are run action by action, on all ranks or on none."""
        return bool(self._comp_type_to_function_map)

    def _walk(
        self,
        arg_mbs: list[tuple[Any, ...]],
        kwarg_mbs: list[dict[str, Any]],
        target_mbs: list[Any] | None,
        losses: list[Any] | None,
        return_outputs: bool,
        loss_kwargs: dict[str, Any] | None,
    ) -> Any:
        """Runs the rows action by action, for the sake of custom functions."""
        raise PipeNotImplementedError(f"{type(self).__name__} has no custom functions; use _PipelineScheduleRuntime.")

    def _engine(self) -> tuple[Any, FunpipeError | None]:
        """The engine, the one of the step before unless the schedule was changed; and why that cannot be, for all."""
        order, ranks, options = self._order(), self._stage_to_rank(), self._options()
        if self._running is not None and not self._running.is_made_of(order, ranks, options):
            try:
                self._require_no_optimizer("was changed after a step, and the optimizer's state is that of the old one")
            except FunpipeError as error:
                return self._running.engine, error
            self._running = None
        if self._running is None:
            self._running = run(self._local_stages, order, ranks, options)
        return self._running.engine, None

    def _options(self) -> Options:
        return Options(
            num_microbatches=self._n_microbatches,
            loss_fn=self._loss_fn,
            args_chunk_spec=self._args_chunk_spec,
            kwargs_chunk_spec=self._kwargs_chunk_spec,
            output_merge_spec=self._output_merge_spec,
            scale_grads=self.scale_grads,
            backend=self._backend,
            optimizer=self._optimizer,
            with_indices=self.pass_stage_and_microbatch_indices,
        )

    def _error(self, call: Call, losses: list[Any] | None) -> FunpipeError | None:
        """What is wrong with a call. It is raised where all ranks meet: if one cannot go on, none waits for it."""
        try:
            self._require_gradients()
            require_list(losses)
            require_call(call, self._n_microbatches)
            self._require_losses(call, losses)
        except FunpipeError as error:
            return error
        return None

    def _require_gradients(self) -> None:
        if self._has_backward and self._backward_requires_autograd and not torch.is_grad_enabled():
            raise PipeRuntimeError(
                "step() requires gradients to be enabled for backward computation; it should not be used under "
                "torch.no_grad() context. Please call eval() instead."
            )

    def _require_no_optimizer(self, why: str) -> None:
        if self._optimizer is not None:
            raise PipeRuntimeError(
                f"The schedule has an optimizer, and {why}; make a new schedule without one, and step your own."
            )

    def _require_losses(self, call: Call, losses: list[Any] | None) -> None:
        """Whoever trains the last stage has a target."""
        last = next((stage for stage in self._local_stages if stage.is_last), None)
        if self._has_backward and last is not None and call.target is None and call.target_mbs is None:
            raise PipeliningMetadataError(
                f"Stage {last.stage_index}: loss_fn and target required for last stage; pass target=, or call eval()."
            )
