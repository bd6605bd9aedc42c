"""What lowered programs pass through before they run."""

from funpipe.passes.base import Pass
from funpipe.passes.compose import compose
from funpipe.passes.early_receives import early_receives
from funpipe.passes.free_values import free_values
from funpipe.passes.release_sends import release_sends
from funpipe.programs import Programs

default_passes: tuple[Pass, ...] = (
    Pass("early_receives", early_receives, over=Programs),  # one computation ahead, in the order of the sends
    Pass("release_sends", release_sends, over=Programs, after=("early_receives",)),  # as soon as that cannot block
    Pass("free_values", free_values, over=Programs, after=("early_receives", "release_sends")),  # after the last use
)


def optimize(programs: Programs, passes: tuple[Pass, ...] = default_passes) -> Programs:
    """Applies passes in order, and verifies the programs after each.

    Args:
        programs: as lowering gives them.
        passes: which; all by default.

    Returns:
        Programs that compute the same bits.

    Raises:
        ProgramError: what a pass returned breaks a rule of `funpipe.programs.verify`.
        PassError: the passes are not in an order that they allow, or were applied before.

    Example:
        >>> import torch
        >>> from funpipe.programs import lower
        >>> from funpipe.schedules import GPipe
        >>> from funpipe.stages import partition
        >>> from funpipe.tracing import trace
        >>> traced = trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> programs = optimize(lower(traced, partition(traced, ()), GPipe().table(1, 2)))
        >>> programs.programs[0].as_text().splitlines()[-1].startswith("free")
        True
    """
    return compose(*passes)(programs)
