"""What keeps a plan from being faster."""

from dataclasses import replace

from funpipe._errors import StageError
from funpipe.planning.search import Found, Search


def limit_of(found: Found, search: Search) -> str:
    """The largest part of the step's time, or "memory" if what takes less time does not fit.

    Args:
        found: a candidate with its prediction.
        search: in which it was found.
    """
    if found.candidate.remat != "none" and not _fits_without_remat(found, search):
        return "memory"
    shares = found.prediction.shares
    return max(shares, key=shares.__getitem__)


def _fits_without_remat(found: Found, search: Search) -> bool:
    try:
        plain = search.predict(replace(found.candidate, remat="none"))
    except StageError:  # no such cut: nothing to compare with
        return True
    return max(plain.memory) <= search.cluster.memory
