"""What leaves may be: dense tensors. Steps keep, split, send and flatten them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from funpipe._errors import TraceError
from funpipe.functional.tree import place


def check_dense(what: str, leaves: Iterable[tuple[str, Tensor]]) -> None:
    """Raises where a leaf is sparse, nested or quantized.

    Args:
        what: the tree is called in errors.
        leaves: by name.

    Raises:
        TraceError: the leaf is named.

    Example:
        >>> check_dense("params", [("w", torch.ones(2))])
    """
    for name, leaf in leaves:
        kind = _kind(leaf)
        if kind:
            raise TraceError(
                f"{what}: {place(name)} is {kind}, and steps hold dense tensors alone: pass its parts (x.indices() and "
                "x.values(), or x.to_dense()) and make it in the loss function. A model that holds one as a buffer "
                "makes it in its forward."
            )


def _kind(leaf: Tensor) -> str | None:
    if leaf.is_nested:
        return "a nested tensor"
    if leaf.layout != torch.strided:
        return f"a sparse tensor ({str(leaf.layout).removeprefix('torch.')})"
    return f"quantized ({leaf.dtype})" if leaf.is_quantized else None
