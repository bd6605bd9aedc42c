"""`Call`: what a user passes to one `step` or `eval`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Call:
    """The arguments of one step on this rank.

    Args:
        args, kwargs: whole ones, which are split into microbatches.
        target: the same, for the loss.
        loss_kwargs: passed to the loss function with every microbatch.
        arg_mbs, kwarg_mbs, target_mbs: instead of those, what each microbatch gets.
        error: what is wrong with these arguments; raised where all ranks learn of it.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    target: Any = None
    loss_kwargs: Mapping[str, Any] | None = None
    arg_mbs: Sequence[tuple[Any, ...]] | None = None
    kwarg_mbs: Sequence[Mapping[str, Any]] | None = None
    target_mbs: Sequence[Any] | None = None
    error: Exception | None = None
