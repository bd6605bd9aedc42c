"""From what a train step is given as `stages` to a way to cut."""

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.stages.at_marks import at_marks
from funpipe.stages.balanced import balanced
from funpipe.stages.cutter import Cutter
from funpipe.tracing.traced import Traced


def resolve(stages: "Cutter | int | None", traced: Traced, num_stages_wanted: int | None = None) -> Cutter:
    """The cutter that an argument `stages` stands for.

    Args:
        stages: a cutter; a number of balanced stages; or None: at the model's marks if it has any, else as many
            balanced stages as the schedule wants.
        traced: the graph to be cut.
        num_stages_wanted: how many stages the schedule needs, if it says so.

    Returns:
        The cutter.

    Raises:
        FunpipeTypeError: `stages` is something else.
        StageError: nothing says how many stages there are.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace(lambda p, x: (x @ p).sum(), torch.ones(3, 2), torch.ones(4, 3))
        >>> fp.stages.resolve(None, traced, 2) == fp.stages.resolve(2, traced) == fp.stages.balanced(2)
        True
    """
    if isinstance(stages, Cutter):
        return stages
    if isinstance(stages, int) and not isinstance(stages, bool):
        return balanced(stages)
    if stages is not None:
        raise FunpipeTypeError(
            f"stages is {stages!r}; pass the number of stages, fp.stages.balanced(n), fp.stages.split_at({{...}}) or "
            "fp.stages.at_marks()."
        )
    if traced.marks:
        return at_marks()
    if num_stages_wanted is None:
        raise StageError("nothing says how many stages there are; pass stages=n, or mark their ends in the model.")
    return balanced(num_stages_wanted)
