"""The verifier: the programs of all ranks together, before anything runs."""

from collections.abc import Callable
from dataclasses import dataclass

from funpipe.programs.program import Programs
from funpipe.programs.rules.collectives import collectives
from funpipe.programs.rules.deadlock import no_deadlock
from funpipe.programs.rules.histories import histories
from funpipe.programs.rules.lives import lives
from funpipe.programs.rules.memory import peak
from funpipe.programs.rules.messages import messages
from funpipe.programs.rules.microbatches import microbatches
from funpipe.programs.rules.tasks import tasks
from funpipe.programs.rules.transfers import transfers

RULES: tuple[Callable[[Programs], None], ...] = (
    lives,  # every value made before it is read, freed after, with a type
    tasks,  # every region once for every microbatch, on its rank, with its inputs
    transfers,  # nothing overwritten while it is being sent
    messages,  # every send with its receive, same value and type, same order on each edge
    collectives,  # the same collectives on all ranks of a group
    microbatches,  # every microbatch once in every accumulator and result
    histories,  # gradients reduced, scaled and applied once, in this order; parameters updated once
    no_deadlock,  # all ranks come to the end
)
"""In this order: each relies on those before it."""


@dataclass(frozen=True)
class Report:
    """What the verifier computed.

    Args:
        peak_memory: for each rank the most bytes that its values take at once, those there from the start included.
        peak_at: for each rank the instruction at which they do.
    """

    peak_memory: tuple[int, ...]
    peak_at: tuple[int, ...]


def check(programs: Programs) -> None:
    """Raises a ProgramError where a rule is broken: `verify` without the memory."""
    for rule in RULES:
        rule(programs)


def verify(programs: Programs) -> Report:
    """Checks the programs of all ranks, together, in time linear in their instructions.

    Sends and receives are to be in one order on each edge, which lowering leaves to `funpipe.passes`: verify programs
    that went through `early_receives`.

    Args:
        programs: the programs.

    Returns:
        The peak memory of each rank.

    Raises:
        ProgramError: a rule is broken; the text has the rank's program around the line at fault, and the remedy.

    Example:
        >>> import torch
        >>> from funpipe.programs import lower
        >>> from funpipe.schedules import GPipe
        >>> from funpipe.stages import partition
        >>> from funpipe.tracing import trace
        >>> traced = trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> report = verify(lower(traced, partition(traced, ()), GPipe().table(1, 2)))
        >>> len(report.peak_memory)
        1
    """
    check(programs)
    peaks = [peak(programs, program) for program in programs.programs]
    return Report(tuple(most for most, _ in peaks), tuple(at for _, at in peaks))
