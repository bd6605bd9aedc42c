"""The CTC loss for captures, which know shapes and no values.

How much it saves for its backward depends on the lengths of the targets, which torch.export refuses. A capture keeps
the whole loss as one operator and reads nothing of what is saved, so within it the loss may save the most there can be.
"""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from funpipe.tracing import decomposing

_FUNCTIONS = (functional.ctc_loss, torch.ctc_loss)


class CapturingCTCLoss(TorchFunctionMode):
    """While open, the CTC loss can be captured.

    Example:
        >>> class Model(torch.nn.Module):
        ...     def forward(self, scores, labels, steps, lengths):
        ...         return functional.ctc_loss(scores, labels, steps, lengths)
        >>> example = torch.zeros(4, 1, 3), torch.tensor([[1]]), torch.tensor([4]), torch.tensor([1])
        >>> with CapturingCTCLoss():
        ...     captured = torch.export.export(Model(), example, strict=False)
        >>> [node.name for node in captured.graph.find_nodes(op="call_function", target=torch.ops.aten.ctc_loss.Tensor)]
        ['ctc_loss']
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _FUNCTIONS:
            return func(*args, **(kwargs or {}))
        with decomposing():  # here, so that it is inside of the modes of torch.export
            return func(*args, **(kwargs or {}))


def needs_ctc_loss(error: Exception) -> bool:
    """Whether a capture failed at the CTC loss.

    Args:
        error: that it raised.
    """
    return "aten._ctc_loss" in repr(error)
