"""The Newton-Schulz iteration as one operator: a matrix with all its singular values near one.

Compiled into the update around it, the products would be calls of the same library, and their bits those of the
compiler's choice of layout; as an operator they are the same in every backend, for every cut.
"""

import torch
from torch import Tensor

Coefficients = tuple[float, float, float]
"""a, b, c of X ← a X + (b A + c A²) X, with A = X Xᵀ."""

_LIBRARY = torch.library.Library("funpipe_optim", "FRAGMENT")
_LIBRARY.define("orthogonalize(Tensor x, float a, float b, float c, int steps, float eps, ScalarType dtype) -> Tensor")


def orthogonalize(x: Tensor, coefficients: Coefficients, steps: int, eps: float, dtype: torch.dtype) -> Tensor:
    """A matrix near U Vᵀ, where x = U S Vᵀ.

    Args:
        x: a matrix.
        coefficients: a, b and c.
        steps: how many iterations.
        eps: the least norm that the matrix is divided by.
        dtype: of the computation.

    Returns:
        Of the shape of x, in `dtype`.

    Example:
        >>> import torch
        >>> q = orthogonalize(torch.eye(2) * 7, (1.5, -0.5, 0.0), 9, 1e-7, torch.float64)
        >>> torch.allclose(q, torch.eye(2, dtype=torch.float64))
        True

    Source: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024); Å. Björck and C. Bowie,
        An iterative algorithm for computing the best estimate of an orthogonal matrix (1971).
    """
    return torch.ops.funpipe_optim.orthogonalize(x, *coefficients, steps, eps, dtype)


def _orthogonalize(x: Tensor, a: float, b: float, c: float, steps: int, eps: float, dtype: torch.dtype) -> Tensor:
    """The products are of the smaller side, whatever the shape."""
    is_tall = x.shape[0] > x.shape[1]
    x = x.to(dtype, copy=True)
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).contiguous()


def _like(x: Tensor, a: float, b: float, c: float, steps: int, eps: float, dtype: torch.dtype) -> Tensor:
    return torch.empty(x.shape, dtype=dtype, device=x.device)


_LIBRARY.impl("orthogonalize", _orthogonalize, "CompositeExplicitAutograd")
torch.library.register_fake("funpipe_optim::orthogonalize", _like, lib=_LIBRARY)
