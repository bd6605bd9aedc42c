"""A sequence of modules in which each is a stage."""

from typing import Any

from torch import nn

from funpipe.interop.pipelining._IR.marks import pipe_split


class PipeSequential(nn.Sequential):
    """`nn.Sequential` with a stage's end between every two modules.

    Example:
        >>> import torch
        >>> from funpipe.interop.pipelining import pipeline
        >>> model = PipeSequential.from_sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
        >>> pipeline(model, (torch.ones(1, 2),)).num_stages
        3
    """

    @staticmethod
    def from_sequential(sequential_instance: nn.Sequential) -> "PipeSequential":
        """The modules of an `nn.Sequential`, which are shared, not copied."""
        return PipeSequential(*sequential_instance)

    def forward(self, input: Any) -> Any:
        """Calls the modules in order."""
        for index, module in enumerate(self):
            if index:
                pipe_split()
            input = module(input)
        return input
