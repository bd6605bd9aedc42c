"""What a step is told by the names of leaves has to name some: a typing error would else change nothing, silently."""

from collections.abc import Iterable, Mapping

from funpipe._errors import TreeError
from funpipe.functional.names import nearest, quoted
from funpipe.functional.patterns import matching
from funpipe.runtime.setup import Setup


def require_named(setup: Setup, params: Iterable[str], batch: Iterable[str]) -> None:
    """Raises where a pattern of the optimizer, or a part of a name in the policy, matches no leaf.

    Args:
        setup: of the step.
        params: the names of the parameters, frozen ones too.
        batch: the names of the batch's leaves.

    Raises:
        TreeError: the pattern and the nearest names.
    """
    if setup.optimizer is not None:
        matching(params, setup.optimizer.patterns, "multi_transform: the label's pattern")
    keep = setup.precision.keep if setup.precision else None
    known = [*params, *batch]
    for part in keep if isinstance(keep, Mapping) else ():
        if not any(part in name for name in known):
            raise TreeError(
                f"precision: keep names {part!r}, which is a part of no leaf's name; the nearest names are "
                f"{quoted(nearest(part, known) or known)}."
            )
