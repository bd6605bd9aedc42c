"""Cuts where the model's own code says that a stage ends."""

from dataclasses import dataclass
from typing import final

from funpipe._errors import StageError
from funpipe.stages.cutter import Cutter, cuts_at
from funpipe.tracing.traced import Traced


@final
@dataclass(frozen=True)
class AtMarks(Cutter):
    """Cuts at the model's marks; made by `at_marks`."""

    def __call__(self, traced: Traced) -> tuple[int, ...]:
        """The positions of the marks."""
        if not traced.marks:
            raise StageError(
                "the model has no stage marks; put x = fp.mark_stage_end(x) into its forward where a stage ends, or "
                "pass stages=fp.stages.balanced(n)."
            )
        # A mark of a pytree leaves one node for each of its tensors: the stage ends after the last.
        ends = {mark.name: mark.position for mark in traced.marks}
        return cuts_at(traced, [(position, f"the mark {name!r}") for name, position in ends.items()])


def at_marks() -> AtMarks:
    """Cuts at every `fp.mark_stage_end` in the model.

    Returns:
        A cutter for one stage more than the model has marks; it raises a StageError for a model without marks, and
        where a stage would be empty.

    Example:
        >>> import torch, funpipe as fp
        >>> def loss(p, x):
        ...     h = fp.mark_stage_end(x @ p["a"], name="encoder")
        ...     return (h @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> fp.stages.at_marks()(traced)
        (1,)
    """
    return AtMarks()
