"""Leaves that stay as they are."""

from funpipe.optim.base import Entries, Optimizer, State, no_state
from funpipe.optim.context import Context
from funpipe.optim.settings import Settings


def freeze() -> Optimizer:
    """Updates nothing and keeps nothing: for a group of `groups` or `multi_transform`.

    The gradients are still computed, and count in the global norm; leaves that are frozen for good cost nothing if they
    do not require a gradient when the step is made.

    Returns:
        An `Optimizer` without slots.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, freeze
        >>> apply(freeze(), {"w": torch.ones(1)}, {"w": torch.ones(1)}, {}, torch.tensor(0))
        ({'w': tensor([1.])}, {})
    """
    return Optimizer(
        init=no_state,
        update=_unchanged,
        name="freeze()",
        scalars_at=lambda step, lr: {},  # any learning rate is fine
        settings=Settings.of("freeze"),
    )


def _unchanged(grads: Entries, state: State, params: Entries, ctx: Context) -> tuple[Entries, State]:
    return params, state
