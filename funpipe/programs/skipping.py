"""A step that is skipped because a gradient is not finite: how that is found, and what then keeps its old value."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def overflow(grads: Sequence[Tensor], device: str = "cpu") -> Tensor:
    """How many of some gradients are not finite everywhere.

    Args:
        grads: flat, of any floating-point dtypes; maybe none.
        device: where the number is made if there are none.

    Returns:
        0-dim float32, so that ranks can add theirs.

    Example:
        >>> overflow([torch.ones(2), torch.tensor([1.0, float("inf")])])
        tensor(1.)
    """
    if not grads:
        return torch.zeros((), device=device)
    return torch.stack([(~torch.isfinite(grad)).any() for grad in grads]).sum(dtype=torch.float32)


def unless(flags: Sequence[Tensor], old: Tensor, new: Tensor) -> Tensor:
    """The old value where any flag is not zero, else the new one.

    Args:
        flags: 0-dim numbers; without any it is the new value.
        old, new: of one type.

    Example:
        >>> unless([torch.tensor(0.0)], torch.zeros(1), torch.ones(1))
        tensor([1.])
    """
    for flag in flags:
        new = torch.where(flag != 0, old, new)
    return new


def all_unless(flags: Sequence[Tensor], old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same of several values by name."""
    return {name: unless(flags, old[name], value) for name, value in new.items()}
