"""The mark that says where a stage ends: an operator without arguments and results.

Run eagerly it does nothing. Tracing keeps it although nothing reads it, because it counts as having an effect.
"""

import torch
from torch import fx


@torch.library.custom_op("funpipe_pipelining::pipe_split", mutates_args=())
def _split() -> None:
    return None


@_split.register_fake
def _() -> None:
    return None


aten_pipe_split_alias = torch.ops.funpipe_pipelining.pipe_split.default
"""The operator itself: what a split policy puts into a graph with `graph.call_function(aten_pipe_split_alias, ())`."""

fx.has_side_effect(aten_pipe_split_alias)


def pipe_split() -> None:
    """Ends a stage here, in the code of a model or of any of its submodules; nothing when the model runs eagerly.

    Two marks with nothing between them are one, and one before the first or after the last operator is none.

    Example:
        >>> class Model(torch.nn.Module):
        ...     def forward(self, x):
        ...         x = x.sin()
        ...         pipe_split()
        ...         return x.cos()
        >>> Model()(torch.zeros(1))
        tensor([1.])
        >>> from funpipe.interop.pipelining import pipeline
        >>> pipeline(Model(), (torch.zeros(1),)).num_stages
        2
    """
    torch.ops.funpipe_pipelining.pipe_split()


def is_mark(node: fx.Node) -> bool:
    """Whether a node is such a mark."""
    return node.target is aten_pipe_split_alias
