"""From tensors to what is known of them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from funpipe.interop.pipelining._utils.dtensor_meta import _DTensorMeta
from funpipe.interop.pipelining._utils.local import is_dtensor
from funpipe.interop.pipelining._utils.stage_meta import TensorMeta
from funpipe.interop.pipelining._utils.tensor_meta import _TensorMeta
from funpipe.interop.pipelining.errors import PipeliningMetadataError


def extract_tensor_meta(tensor: Tensor) -> TensorMeta:
    """What is known of a tensor.

    Args:
        tensor: A plain tensor or a DTensor.

    Returns:
        A `_TensorMeta` or a `_DTensorMeta`.

    Raises:
        PipeliningMetadataError: It is neither.

    Example:
        >>> import torch
        >>> extract_tensor_meta(torch.ones(3)).shape
        torch.Size([3])
    """
    if not isinstance(tensor, Tensor):
        raise PipeliningMetadataError(f"Expected a tensor, got {type(tensor).__name__}; pass tensors only.")
    return _DTensorMeta.from_dtensor(tensor) if is_dtensor(tensor) else _TensorMeta.from_tensor(tensor)


def extract_tensor_metas(tensors: Sequence[Tensor | None] | None, *, allow_none: bool = False) -> Any:
    """What is known of some tensors.

    Args:
        tensors: The tensors; None gives None.
        allow_none: Whether a None among them stays one.

    Returns:
        A tuple of `_TensorMeta`, `_DTensorMeta` and None.

    Raises:
        PipeliningMetadataError: Something is no tensor, or None without `allow_none`.

    Example:
        >>> extract_tensor_metas((None,), allow_none=True)
        (None,)
    """
    if tensors is None:
        return None
    return tuple(_meta(tensor, allow_none) for tensor in ([tensors] if isinstance(tensors, Tensor) else tensors))


def _meta(tensor: Tensor | None, allow_none: bool) -> TensorMeta | None:
    if tensor is not None:
        return extract_tensor_meta(tensor)
    if allow_none:
        return None
    raise PipeliningMetadataError("None values are not allowed among tensors; pass allow_none=True if they may be.")
