"""That a step is compiled for batches of every size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from funpipe.programs.program import Programs


@dataclass(frozen=True, eq=False)
class Sizes:
    """What is compiled for every size.

    Args:
        others: gives the same step at other sizes, one after the other; asked where a piece is not known yet.
    """

    others: Callable[[], Iterator[Programs]]
