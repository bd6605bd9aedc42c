"""Losses of microbatches, as a schedule that is walked action by action computes and keeps them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from funpipe.interop.pipelining.errors import PipeRuntimeError


class Losses:
    """The part of a schedule that knows losses; what a custom function or a user's own schedule calls.

    Needs of the class: `_loss_fn`, `_n_microbatches`, `_internal_losses`.
    """

    _loss_fn: Callable[..., Any] | None
    _n_microbatches: int
    _internal_losses: list[Any]

    def _compute_loss(self, output: Any, target: Any, loss_kwargs: Mapping[str, Any] | None = None) -> Any:
        """The loss of one microbatch."""
        if self._loss_fn is None:
            raise PipeRuntimeError("The schedule has no loss_fn; make it with one.")
        return self._loss_fn(output, target, **(loss_kwargs or {}))

    def _maybe_compute_loss(
        self,
        stage: Any,
        output: Any,
        target_mbs: list[Any] | None,
        mb_index: int,
        loss_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Computes and keeps the loss of a microbatch, if the stage is the last one and there is a loss."""
        if stage.is_last and self._loss_fn is not None and target_mbs is not None:
            missing = mb_index + 1 - len(self._internal_losses)
            self._internal_losses += [None] * missing
            self._internal_losses[mb_index] = self._compute_loss(output, target_mbs[mb_index], loss_kwargs)

    def _maybe_get_loss(self, stage: Any, mb_index: int) -> Any:
        """The loss of a microbatch; None on a stage that is not the last one, and where there is no loss.

        Raises:
            PipeRuntimeError: there are losses, but not this one.
        """
        if not stage.is_last or self._loss_fn is None:
            return None
        kept = self._internal_losses
        if kept and (mb_index < 0 or mb_index >= len(kept) or kept[mb_index] is None):
            raise PipeRuntimeError(
                f"Loss for microbatch {mb_index} is not available. Available losses for microbatches: {kept}; "
                "run the microbatch's forward on the last stage first."
            )
        return kept[mb_index] if kept else None

    def _update_losses(self, stages: Any, losses: list[Any] | None) -> None:
        """Moves the kept losses to the user's list, on the rank of the last stage.

        Raises:
            PipeRuntimeError: one is missing.
        """
        local = stages if isinstance(stages, Iterable) else [stages]
        if losses is not None and any(stage.is_last for stage in local):
            there = [loss for loss in self._internal_losses if loss is not None]
            if len(there) != self._n_microbatches:
                raise PipeRuntimeError(
                    f"Expecting {self._n_microbatches} losses but got {len(there)}; compute one for each microbatch."
                )
            losses[:] = (loss.detach() for loss in there)
        self._internal_losses.clear()
