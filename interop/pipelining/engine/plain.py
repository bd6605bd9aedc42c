"""What a step cannot run on: tensors that are spread over a mesh of their own."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from funpipe.interop.pipelining import trees
from funpipe.interop.pipelining._utils import is_dtensor
from funpipe.interop.pipelining.errors import PipeliningMetadataError


def require_plain(modules: Mapping[int, nn.Module], arguments: Iterable[Any]) -> None:
    """Raises where a stage's parameters or buffers, or a step's arguments, are DTensors.

    Args:
        modules: this rank's stages.
        arguments: trees of what is passed to them.

    Raises:
        PipeliningMetadataError: one is.
    """
    found = next(_dtensors(modules, arguments), None)
    if found is not None:
        raise PipeliningMetadataError(
            f"DTensor detected: {found}. A step is a program over plain tensors: pass to_local() of arguments, and "
            "make stages of modules with plain parameters."
        )


def _dtensors(modules: Mapping[int, nn.Module], arguments: Iterable[Any]) -> Iterator[str]:
    for stage, module in modules.items():
        for kind, named in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
            yield from (f"{kind} {name!r} of stage {stage}" for name, tensor in named if is_dtensor(tensor))
    for tree in arguments:
        yield from ("an argument" for leaf in trees.flatten(tree)[0] if is_dtensor(leaf))
