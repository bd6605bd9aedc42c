"""Matrix products on a CPU: large ones in float32 by oneDNN, small ones with their bias added by the next kernel.

`mm` and `addmm` go to the BLAS that torch was built with. On processors that are not its maker's that one may use half
of the vector width; oneDNN asks the processor. A call of it costs more, so small products stay.

torch's compiler takes oneDNN's operator only with constant weights, so funpipe has an operator of its own around it.
"""

from typing import Any

import torch
from torch import Tensor

from funpipe import _compat

aten = torch.ops.aten

FEWEST_OPERATIONS = 3 * 2**20
"""Multiplications and additions of a product that goes to oneDNN; below, its call costs what it saves."""

_LIBRARY = torch.library.Library("funpipe", "FRAGMENT")
_LIBRARY.define("mm(Tensor a, Tensor b, Tensor? bias=None) -> Tensor")
_LINEAR = _compat.onednn_linear()


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    assert _LINEAR is not None  # else no graph calls the operator
    return _LINEAR(a, b.t(), None if bias is None else bias.contiguous())  # it takes the bias as dense


def _type_of_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


_LIBRARY.impl("mm", _product, "CPU")
torch.library.register_fake("funpipe::mm", _type_of_product, lib=_LIBRARY)


def mm(a: Tensor, b: Tensor) -> Tensor:
    """In place of `mm`.

    Args:
        a: shape (m, k).
        b: shape (k, n).

    Returns:
        Their product, shape (m, n); or NotImplemented.
    """
    return _by_onednn(a, b, None) if _large(a, b) else NotImplemented


def addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """In place of `addmm`.

    A small one becomes `mm` and an addition: `addmm` would copy the bias to every row first, where the addition costs
    nothing in the kernel that comes next.

    Args:
        bias: shape (n), else the operator stays.
        a: shape (m, k).
        b: shape (k, n).
        beta: factor of the bias; other than 1, the operator stays.
        alpha: factor of the product; other than 1, the operator stays.

    Returns:
        The product plus the bias, shape (m, n); or NotImplemented.
    """
    plain = beta == 1 and alpha == 1 and bias.shape == b.shape[1:] and bias.dtype == a.dtype
    if not plain or a.device.type != "cpu" or a.dtype not in (torch.float32, torch.float64):
        return NotImplemented
    return _by_onednn(a, b, bias) if _large(a, b) else aten.mm.default(a, b) + bias


REWRITES: dict[Any, Any] = {aten.mm.default: mm, aten.addmm.default: addmm}
"""Operators, and what to trace in their place."""


def _by_onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """The left side in rows: oneDNN would copy it otherwise, more slowly than a compiled kernel that does so too."""
    return torch.ops.funpipe.mm.default(a.contiguous(), b, bias)


def _large(a: Tensor, b: Tensor) -> bool:
    """Whether oneDNN has such a product, and in less time."""
    dense = a.dtype == b.dtype == torch.float32 and a.device.type == b.device.type == "cpu"
    return _LINEAR is not None and dense and 2 * a.shape[0] * a.shape[1] * b.shape[1] >= FEWEST_OPERATIONS
