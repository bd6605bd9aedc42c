"""Learning rates from outside an optimizer: a leaf of the state, changed without tracing anything again."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, Optimizer, Rate


def check_rates(known: Iterable[str], lr: Rate | None) -> None:
    """Raises unless learning rates are for groups that are there."""
    unknown = sorted(set(lr) - set(known), key=repr) if isinstance(lr, Mapping) else []
    if unknown:
        raise FunpipeError(f"lr names the group {unknown[0]!r}, and the groups are {sorted(known)}; use one of these")


def rate_of(lr: Rate | None, group: str | None) -> Rate | None:
    """The learning rate of a group; None: its optimizer's own."""
    return lr.get(group) if isinstance(lr, Mapping) and group is not None else lr


def scalars_of(optimizer: Optimizer, step: Tensor, lr: Rate | None) -> Entries:
    """An optimizer's scalars, with a learning rate from outside if one is given.

    Raises:
        FunpipeError: the optimizer takes none.
    """
    if lr is None:
        return optimizer.scalars(step)
    if optimizer.scalars_at is None:
        raise FunpipeError(
            f"lr is given, and {optimizer} takes no learning rate from outside; leave lr out, or use fp.optim.sgd, "
            "adam or adamw, or an Optimizer with scalars_at=(step, lr) -> scalars"
        )
    return optimizer.scalars_at(step, lr)
