"""What is known of a tensor without its values: it can be compared, sent to another process, and made anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from funpipe.interop.pipelining._utils.local import is_dtensor
from funpipe.interop.pipelining.errors import PipeliningMetadataError


@dataclass(frozen=True)
class _TensorMeta:
    """The shape, strides and dtype of a tensor, and whether it requires a gradient.

    Example:
        >>> _TensorMeta.from_tensor(torch.ones(2, 3))
        _TensorMeta(shape=torch.Size([2, 3]), stride=(3, 1), dtype=torch.float32, requires_grad=False)
    """

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool

    @staticmethod
    def from_tensor(tensor: Tensor) -> _TensorMeta:
        """Reads it off a tensor.

        Args:
            tensor: A tensor that is no DTensor.

        Raises:
            PipeliningMetadataError: It is a DTensor.
        """
        if is_dtensor(tensor):
            raise PipeliningMetadataError("Expected plain tensor, got DTensor; use _DTensorMeta.from_dtensor.")
        return _TensorMeta(tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad)

    def to_tensor(self, device: torch.device | str) -> Tensor:
        """A tensor like that, with any values.

        Args:
            device: Where to make it.

        Example:
            >>> _TensorMeta.from_tensor(torch.ones(2, 3).t()).to_tensor("cpu").stride()
            (1, 3)
        """
        return _make_tensor_from_meta(self, device).requires_grad_(self.requires_grad)

    def get_diff(self, other: _TensorMeta) -> list[str]:
        """Says in what another one differs; whether it requires a gradient does not count.

        Args:
            other: The other one.

        Example:
            >>> plain, double = torch.ones(2), torch.ones(2, dtype=torch.float64)
            >>> _TensorMeta.from_tensor(plain).get_diff(_TensorMeta.from_tensor(double))
            ['dtype mismatch: torch.float32 vs torch.float64']
        """
        return differences(self, other, ("shape", "stride", "dtype"))


def differences(expected: _TensorMeta, actual: _TensorMeta, names: tuple[str, ...]) -> list[str]:
    """Says which of some fields differ.

    Args:
        expected: What it should be.
        actual: What it is.
        names: The fields.
    """
    pairs = [(name, getattr(expected, name), getattr(actual, name)) for name in names]
    return [f"{name} mismatch: {wanted} vs {got}" for name, wanted, got in pairs if wanted != got]


def _make_tensor_from_meta(meta: _TensorMeta, device: torch.device | str) -> Tensor:
    """A tensor to receive into.

    Args:
        meta: What it has to be like.
        device: Where to make it.

    Returns:
        A tensor of any values that requires no gradient.

    Example:
        >>> _make_tensor_from_meta(_TensorMeta.from_tensor(torch.ones(2)), "meta").shape
        torch.Size([2])
    """
    return torch.empty_strided(meta.shape, meta.stride, dtype=meta.dtype, device=device)


def _derive_grad_metas(tensor_metas: tuple[_TensorMeta, ...]) -> tuple[_TensorMeta | None, ...]:
    """What is known of the gradients of some tensors: those of plain ones are like them.

    Args:
        tensor_metas: What is known of the tensors.

    Returns:
        None for a tensor that requires no gradient, and for a DTensor, whose gradient may be placed otherwise.

    Example:
        >>> _derive_grad_metas((_TensorMeta.from_tensor(torch.ones(2)),))
        (None,)
    """
    return tuple(_grad(meta) for meta in tensor_metas)


def _grad(meta: _TensorMeta) -> _TensorMeta | None:
    return replace(meta, requires_grad=False) if type(meta) is _TensorMeta and meta.requires_grad else None
