"""The names that a message offers in place of an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches


def near(name: str, known: Iterable[str], count: int = 3) -> str:
    """What to use instead of a name that is not there.

    Args:
        name: the unknown name.
        known: those that exist.
        count: how many to offer.

    Returns:
        The end of a message: `use one of 'addmm', 'addmm_1'.`

    Example:
        >>> near("adm", ["addmm", "relu"])
        "use 'addmm'."
    """
    names = list(known)
    found = get_close_matches(name, names, count, cutoff=0.4) or names[:count]
    if not found:
        return "there are no names to choose from."
    return f"use {'one of ' if len(found) > 1 else ''}{', '.join(map(repr, found))}."
