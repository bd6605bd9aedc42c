"""The CTC loss with results whose shapes are known before the lengths of the targets are.

The shape of what `aten._ctc_loss` saves for its backward depends on values: there are two columns for each label of the
longest target. So the tracer meets an operator that saves columns for the longest target that there could be. The
backward reads what it needs.
"""

import torch
from torch import Tensor

aten = torch.ops.aten


@torch.library.custom_op("funpipe::ctc_loss", mutates_args=())
def ctc_loss(
    scores: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int, zero: bool
) -> tuple[Tensor, Tensor]:
    """The loss of each row, and what the backward reads."""
    losses, saved = aten._ctc_loss.Tensor(scores, targets, input_lengths, target_lengths, blank, zero)
    columns = 2 * targets.shape[-1] + 1
    return losses, torch.nn.functional.pad(saved, (0, columns - saved.shape[-1]))


@ctc_loss.register_fake
def _(
    scores: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int, zero: bool
) -> tuple[Tensor, Tensor]:
    steps, rows = scores.shape[:2]
    return scores.new_empty((rows,)), scores.new_empty((rows, steps, 2 * targets.shape[-1] + 1))


def _traced(
    scores: Tensor, targets: Tensor, inputs: Tensor, labels: Tensor, blank: int = 0, zero: bool = False
) -> tuple[Tensor, Tensor]:
    return ctc_loss(scores, targets, inputs, labels, blank, zero)


DECOMPOSITIONS = {aten._ctc_loss.Tensor: _traced}
"""For the tracer: operators, and what to trace in their place."""
