"""Tensors checked against what was known of them before."""

import warnings
from collections.abc import Sequence

from torch import Tensor

from funpipe.interop.pipelining._utils.extract import extract_tensor_meta
from funpipe.interop.pipelining._utils.stage_meta import TensorMeta
from funpipe.interop.pipelining.errors import PipeliningMetadataError

REMEDY = "pass tensors like the expected ones, or make the stage anew for these"


def validate_metadata(
    desc: str,
    expected: TensorMeta,
    actual: Tensor | TensorMeta,
    *,
    raise_on_mismatch: bool = False,
    warn_on_mismatch: bool = False,
) -> list[str]:
    """Says in what a tensor differs from what was expected.

    Args:
        desc: What the tensor is, for messages.
        expected: What it should be.
        actual: The tensor, or what is known of it.
        raise_on_mismatch: Raise if it differs.
        warn_on_mismatch: Warn if it differs.

    Returns:
        The differences: in shape, strides, dtype; of DTensors in placement and mesh, too.

    Raises:
        PipeliningMetadataError: It differs, and `raise_on_mismatch` is set.

    Example:
        >>> import torch
        >>> validate_metadata("input 0", extract_tensor_meta(torch.ones(2)), torch.ones(3))
        ['shape mismatch: torch.Size([2]) vs torch.Size([3])']
    """
    found = _differences(expected, actual)
    _report(f"{desc}: {'; '.join(found)}", found, raise_on_mismatch, warn_on_mismatch)
    return found


def validate_tensors_metadata(
    desc: str,
    expected: Sequence[TensorMeta | None],
    actual: Sequence[Tensor | TensorMeta | None],
    *,
    raise_on_mismatch: bool = True,
    warn_on_mismatch: bool = False,
) -> list[str]:
    """Says in what some tensors differ from what was expected.

    Args:
        desc: What they are, for messages.
        expected: What they should be; None where there is none.
        actual: The tensors, or what is known of them.
        raise_on_mismatch: Raise at the first that differs.
        warn_on_mismatch: Warn of each that differs.

    Returns:
        All differences.

    Raises:
        PipeliningMetadataError: One differs, or there are more or fewer, and `raise_on_mismatch` is set.

    Example:
        >>> validate_tensors_metadata("inputs", (None,), (), raise_on_mismatch=False)
        ['inputs: expected 1 tensors, got 0']
    """
    if len(expected) != len(actual):
        found = [f"{desc}: expected {len(expected)} tensors, got {len(actual)}"]
        _report(found[0], found, raise_on_mismatch, warn_on_mismatch)
        return found
    found = []
    for i, (wanted, got) in enumerate(zip(expected, actual, strict=True)):
        found += _pair(f"{desc}[{i}]", wanted, got, raise_on_mismatch, warn_on_mismatch)
    return found


def _pair(
    desc: str, wanted: TensorMeta | None, got: Tensor | TensorMeta | None, raising: bool, warning: bool
) -> list[str]:
    if wanted is not None and got is not None:
        return validate_metadata(desc, wanted, got, raise_on_mismatch=raising, warn_on_mismatch=warning)
    if wanted is None and got is None:
        return []
    found = [f"{desc}: expected {_presence(wanted)}, got {_presence(got)}"]
    _report(found[0], found, raising, warning)
    return found


def _presence(value: object) -> str:
    return "None" if value is None else "metadata"


def _differences(expected: TensorMeta, actual: Tensor | TensorMeta) -> list[str]:
    if isinstance(actual, Tensor):
        actual = extract_tensor_meta(actual)
    if type(actual) is not type(expected):
        return [f"type: expected {type(expected).__name__}, got {type(actual).__name__}"]
    return expected.get_diff(actual)


def _report(text: str, found: list[str], raising: bool, warning: bool) -> None:
    if found and raising:
        raise PipeliningMetadataError(f"{text}; {REMEDY}.")
    if found and warning:
        warnings.warn(f"{text}. What the stage itself takes and returns is used.", stacklevel=3)
