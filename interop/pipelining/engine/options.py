"""`Options`: what a schedule was made with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from funpipe.optim import Optimizer


@dataclass(frozen=True, eq=False)
class Options:
    """What holds for all steps of a schedule.

    Args:
        num_microbatches: of a step.
        loss_fn: takes what the last stage returns and the target; None: there is no loss.
        args_chunk_spec, kwargs_chunk_spec: how arguments are split; None: tensors along their first dimension.
        output_merge_spec: how outputs are merged; None: along their first dimension.
        scale_grads: whether gradients are means over the microbatches, not sums.
        backend: by name.
        optimizer: applied by the step itself; None: the user's own, after it.
        with_indices: whether modules are called with `stage_idx`, a number, and `mb_idx`, a tensor, because
            all microbatches run the same code.
    """

    num_microbatches: int
    loss_fn: Callable[..., Any] | None = None
    args_chunk_spec: Any = None
    kwargs_chunk_spec: Any = None
    output_merge_spec: Any = None
    scale_grads: bool = True
    backend: str = "step"
    optimizer: Optimizer | None = None
    with_indices: bool = False
