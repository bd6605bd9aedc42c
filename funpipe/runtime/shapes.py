"""The compiled steps of one engine, one for each batch that differs in sizes: so many are kept, and a word says so."""

import warnings
from collections.abc import Callable
from typing import Any

from funpipe._errors import FunpipeWarning
from funpipe.runtime.inputs import BatchInputs
from funpipe.runtime.ladder import CompiledStep

Steps = dict[Any, CompiledStep]
"""By what they were compiled for, the one that ran last at the end."""

_FIRST_WORD = 4
"""How many compilations go without a word: training, a last batch, an evaluation of another size."""


def recall(steps: Steps, key: Any) -> CompiledStep | None:
    """The step that was compiled for a key, which becomes the one that ran last; None if there is none.

    Args:
        steps: changed in order alone.
        key: of the batch.
    """
    if key not in steps:
        return None
    steps[key] = steps.pop(key)
    return steps[key]


def keep(steps: Steps, key: Any, make: Callable[[], CompiledStep], limit: int) -> CompiledStep:
    """Compiles a step and keeps it; before that the one that ran longest ago is forgotten, if there are too many.

    Args:
        steps: changed. All ranks see the same batches in the same order, so they forget the same ones.
        key: of the batch.
        make: compiles.
        limit: how many are kept.
    """
    while len(steps) >= limit:
        del steps[next(iter(steps))]
    steps[key] = make()
    return steps[key]


def tell(count: int, limit: int, first: BatchInputs, now: BatchInputs, reads: bool = False) -> None:
    """Warns when steps are compiled again and again: at the fourth, the eighth, and each power of two behind.

    Args:
        count: how many were compiled so far.
        limit: how many are kept.
        first: the batch of `init`.
        now: the batch that one more was compiled for.
        reads: whether the loss function reads values of the batch in Python.
    """
    if count < _FIRST_WORD or count & (count - 1):
        return
    changed = first.difference_text(now)
    if reads and not changed:
        warnings.warn(
            f"the step was compiled {count} times, each time for other values that the loss function reads in Python "
            "(step.lowered.origin.traced.guards says where): use torch.where or a mask there, or pass numbers in the "
            "batch as tensors.",
            FunpipeWarning,
            stacklevel=2,
        )
        return
    dropped = f" Only the {limit} that ran last are kept (max_shapes)." if count >= limit else ""
    warnings.warn(
        f"the step was compiled {count} times, each time for batches of other sizes; against the first one "
        f"{changed or 'nothing differs'}."
        f"{dropped} Pad batches to a few sizes (fp.microbatch.pad, fp.microbatch.pad_to), or raise max_shapes.",
        FunpipeWarning,
        stacklevel=2,
    )
