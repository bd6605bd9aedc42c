"""A model and its loss as one module."""

from collections.abc import Callable
from typing import Any

from torch import nn

from funpipe.interop.pipelining.errors import PipeNotImplementedError


class LossWrapper(nn.Module):
    """A model with its loss, for whoever wants the loss traced too; a subclass says in `forward` how they are called.

    Args:
        module: the model.
        loss_fn: the loss.

    Example:
        >>> import torch
        >>> class Wrapped(LossWrapper):
        ...     def forward(self, x, targets):
        ...         return self.loss_fn(self.module(x), targets)
        >>> Wrapped(nn.Identity(), nn.functional.mse_loss)(torch.ones(2), torch.zeros(2))
        tensor(1.)
    """

    def __init__(self, module: nn.Module, loss_fn: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.loss_fn = loss_fn

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Defined by subclasses.

        Raises:
            PipeNotImplementedError: always.
        """
        raise PipeNotImplementedError(
            f"{type(self).__name__} has no forward: define one that calls self.module and self.loss_fn, "
            "or use TrivialLossWrapper."
        )


class TrivialLossWrapper(LossWrapper):
    """`loss_fn(module(x), targets)`; its whole output is the loss.

    Example:
        >>> import torch
        >>> TrivialLossWrapper(nn.Identity(), nn.functional.mse_loss)(torch.ones(2), torch.zeros(2))
        tensor(1.)
    """

    loss_spec = True

    def forward(self, x: Any, targets: Any) -> Any:
        """The loss of the model's output.

        Args:
            x: the model's argument.
            targets: the loss's second argument.
        """
        return self.loss_fn(self.module(x), targets)
