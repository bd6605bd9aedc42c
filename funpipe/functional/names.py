"""Names of leaves and modules: which are missing, which are unknown, and what the user may have meant."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from funpipe._errors import TreeError


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Finds names that somebody may have meant.

    Args:
        name: what was written.
        known: all names that there are.
        n: how many at most.

    Returns:
        Those of `known` that look most like `name`, best first.

    Example:
        >>> nearest("layer.0", ["layers.0", "layers.1", "head"])
        ['layers.0', 'layers.1']
    """
    return get_close_matches(name, list(known), n=n, cutoff=0.5)


def quoted(names: Iterable[str], limit: int = 3) -> str:
    """The first `limit` names in quotes, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more


def check_names(
    expected: Iterable[str], given: Iterable[str], what: str = "params", aliases: Mapping[str, str] | None = None
) -> None:
    """Raises unless the names in `given` are exactly those in `expected`, in any order.

    Args:
        expected: The names that must be there.
        given: The names that are there.
        what: What the names belong to, for the message.
        aliases: Other names of tied leaves, each with the one name that its leaf goes by.

    Raises:
        TreeError: A name is unknown, an alias, or missing; the message gives the nearest names.

    Example:
        >>> check_names(["weight", "bias"], ["bias", "weight"])
    """
    expected, given = list(expected), list(given)
    known = set(expected)
    for name in given:
        if name not in known:
            raise TreeError(_unknown(name, expected, what, aliases or {}))
    missing = [name for name in expected if name not in set(given)]
    if missing == [""]:
        raise TreeError(f"{what}: it has no leaf, but one tensor was expected; pass that tensor.")
    if missing:
        raise TreeError(f"{what}: missing {quoted(missing)}; pass a value for each name.")


def _unknown(name: str, expected: list[str], what: str, aliases: Mapping[str, str]) -> str:
    """The message for a name that does not belong there."""
    if name in aliases:
        owner = aliases[name]
        return f"{what}: {name!r} is tied to {owner!r} and is one leaf with it; pass it as {owner!r} only."
    if name == "" and expected:
        return (
            f"{what}: it is a single tensor, but a tree was expected; pass a tree with the leaves {quoted(expected)}."
        )
    if expected == [""]:
        return (
            f"{what}: it has a leaf {name!r}, but a single tensor was expected; pass that tensor without a container."
        )
    close = nearest(name, expected) or expected
    names = f"the nearest names are {quoted(close)}; use one of them" if close else "no leaf is expected; remove it"
    return f"{what}: unknown leaf {name!r}; {names}."
