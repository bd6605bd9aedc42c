"""Models that are not traced, and why."""

from typing import Any

from torch import fx, nn

from funpipe.interop.pipelining._utils import is_dtensor
from funpipe.interop.pipelining.errors import PipeliningMetadataError, PipeValueError
from funpipe.interop.pipelining.trees import flatten


def check_names(mod: nn.Module) -> None:
    """Refuses a model with attributes that a graph has for itself, which would silently be without them.

    Args:
        mod: the model.

    Raises:
        PipeValueError: a parameter, buffer or submodule has such a name.
    """
    empty = fx.GraphModule(nn.Module(), fx.Graph())
    names = {name.split(".")[0] for name in (*mod.state_dict(keep_vars=True), *dict(mod.named_children()))}
    taken = sorted(name for name in names if hasattr(empty, name))
    if taken:
        raise PipeValueError(
            f"the model has an attribute {taken[0]!r}, a name that torch.fx graphs have for themselves; "
            f"rename it, for example to {taken[0] + '_'!r}."
        )


def check_plain(mod: nn.Module, arguments: Any) -> None:
    """Refuses DTensors: a graph of their parts is not the graph of the whole.

    Args:
        mod: the model.
        arguments: a tree of what it is called with.

    Raises:
        PipeliningMetadataError: a parameter, a buffer or an argument is one.
    """
    named = [*mod.named_parameters(), *mod.named_buffers()]
    found = [repr(name) for name, tensor in named if is_dtensor(tensor)]
    found += ["an argument" for leaf in flatten(arguments)[0] if is_dtensor(leaf)]
    if found:
        raise PipeliningMetadataError(
            f"DTensor detected in traced pipeline: {found[0]} is one. "
            "Trace the plain model, or make the stages yourself with PipelineStage."
        )
