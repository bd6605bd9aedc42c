"""A model, one microbatch of arguments, and where to cut: a `Pipe`."""

from typing import Any

from torch import nn

from funpipe.interop.pipelining._IR.cut_model import SplitPolicy
from funpipe.interop.pipelining._IR.pipe import Pipe
from funpipe.interop.pipelining._IR.split_points import SplitPoint, split_points
from funpipe.interop.pipelining.errors import PipeValueError


def pipeline(
    module: nn.Module,
    mb_args: tuple[Any, ...],
    mb_kwargs: dict[str, Any] | None = None,
    split_spec: dict[str, SplitPoint] | None = None,
    split_policy: SplitPolicy | None = None,
) -> Pipe:
    """Traces a model and cuts it into stages.

    The cuts are the model's own `pipe_split()` calls, and those of one of the last two arguments. The model is only
    read: the stages have its parameters and buffers themselves, under their names, and nothing else of it changes.

    `train()` and `eval()` on a stage, or on a submodule of it, switch dropout and batch norm; a branch of Python such
    as `if self.training:` or `if len(x) > 4:` is taken once, while the model is traced.

    Args:
        module: the model.
        mb_args: its positional arguments for one microbatch; tensors, or pytrees with tensors. A call may have others
            of any sizes that the model takes, but where it computes with a size that is 1 here, that one stays 1.
        mb_kwargs: its keyword arguments for one microbatch.
        split_spec: submodules by dotted name, and on which side of their call a stage ends.
        split_policy: puts marks into the traced graph.

    Returns:
        The stages and what connects them.

    Raises:
        PipeValueError: both ways to cut are given; or a cut is where no stage can end.
        PipeAttributeError: `split_spec` names a submodule that does not exist.
        PipeRuntimeError: the model cannot be traced as one graph.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> pipe = pipeline(model, (torch.ones(3, 2),), split_spec={"2": SplitPoint.BEGINNING})
        >>> pipe.num_stages, pipe(torch.ones(5, 2))[0].shape
        (2, torch.Size([5, 2]))
        >>> pipe.wiring
        ((Argument(stage=None, index=0),), (Argument(stage=0, index=0),))
    """
    if split_spec is not None and split_policy is not None:
        raise PipeValueError("Cannot specify both `split_spec` and `split_policy`. Please use only one of them.")
    with split_points(module, split_spec or {}):
        return Pipe.from_tracing(module, mb_args, mb_kwargs, split_policy)
