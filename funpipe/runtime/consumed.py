"""Which tensors a step has overwritten: passed to a step again, they are an error instead of wrong numbers.

A step whose state is donated writes the new state where the old one was. The user's tree of the old state still has its
tensors, so each of them is marked; what the step returns are other tensors over the same memory.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

from funpipe._errors import StateError

_MARK = "funpipe_status"
"""The attribute of a tensor that says why it cannot be used."""

CONSUMED = "consumed"
UNFINISHED = "unfinished"


def mark(leaves: Iterable[Tensor], status: str) -> None:
    """Notes on tensors that a step has taken them.

    Args:
        leaves: of a state.
        status: `CONSUMED`, or `UNFINISHED` while the step runs.
    """
    for leaf in leaves:
        setattr(leaf, _MARK, status)


def require_usable(leaves: Mapping[str, Tensor]) -> None:
    """Raises if a tensor was taken by a step.

    Args:
        leaves: by name.

    Raises:
        StateError: one of them was consumed, or the step that took it did not finish; the leaf is named.

    Example:
        >>> import torch
        >>> leaf = torch.ones(2)
        >>> mark([leaf], CONSUMED)
        >>> require_usable({"state.w": leaf})
        Traceback (most recent call last):
        funpipe._errors.StateError: 'state.w' was consumed by the step it was passed to, which has overwritten it: use \
the state that the step returned, as in state, aux = step(state, batch).
    """
    for name, leaf in leaves.items():
        status = getattr(leaf, _MARK, None)
        if status == CONSUMED:
            raise StateError(
                f"{name!r} was consumed by the step it was passed to, which has overwritten it: use the state that the "
                "step returned, as in state, aux = step(state, batch)."
            )
        if status == UNFINISHED:
            raise StateError(
                f"the step that used {name!r} raised or was interrupted, so the state may be half updated: start again "
                "from a checkpoint, or from a copy."
            )
