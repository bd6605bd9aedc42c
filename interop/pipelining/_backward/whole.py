"""The whole backward of one stage and one microbatch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from funpipe.interop.pipelining._backward.paired import explained, paired


def stage_backward(
    stage_output: Any,
    output_grads: Any,
    input_values: Sequence[Any],
    outputs_with_grads_idxs: list[int] | None = None,
) -> tuple[torch.Tensor | None, ...]:
    """Adds the gradients of all leaves to their `.grad` and returns those of the inputs.

    Args:
        stage_output: what the stage returned, of any structure, or the loss.
        output_grads: one gradient for each tensor of it, None for an output that nothing reads; None: it is a loss.
        input_values: the stage's inputs, tensors and others.
        outputs_with_grads_idxs: which of the outputs and gradients to take; None: all.

    Returns:
        One gradient for each input; None for an input that is no tensor, needs none or is not used.

    Raises:
        PipeRuntimeError: autograd failed; the text shows the shapes.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> stage_backward((x * 3, "text"), (torch.ones(2), None), (x, 4))
        (tensor([3., 3.]), None)
    """
    if outputs_with_grads_idxs is not None:
        stage_output = [stage_output[index] for index in outputs_with_grads_idxs]
        output_grads = [output_grads[index] for index in outputs_with_grads_idxs]
    run = lambda: _run(stage_output, output_grads, input_values)  # noqa: E731
    return explained(run, "", stage_output, output_grads, input_values)


def _run(outputs: Any, gradients: Any, inputs: Sequence[Any]) -> tuple[torch.Tensor | None, ...]:
    pairs = paired(outputs, gradients)
    arrived: list[torch.Tensor | None] = [None] * len(inputs)
    # What arrives in this backward: `.grad` may hold that of an earlier one, and non-leaves have none.
    hooks = [value.register_hook(_keep(arrived, i)) for i, value in enumerate(inputs) if differentiable(value)]
    try:
        if pairs:
            started, given = zip(*pairs, strict=True)
            torch.autograd.backward(started, given)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(arrived)


def _keep(arrived: list[torch.Tensor | None], index: int) -> Callable[[torch.Tensor], None]:
    def hook(gradient: torch.Tensor) -> None:
        arrived[index] = gradient

    return hook


def differentiable(value: Any) -> bool:
    """Whether autograd computes a gradient for it."""
    return isinstance(value, torch.Tensor) and value.requires_grad
