"""Leaves chosen by their names: `layers.0.*`, `*.bias`, or the name of a subtree."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from funpipe._errors import TreeError
from funpipe.functional.names import nearest, quoted

Patterns = str | Sequence[str]
"""One or several; `*` stands for any characters, dots included, and the name of a subtree for all leaves in it."""


def matching(names: Iterable[str], patterns: Patterns, what: str = "the pattern") -> list[str]:
    """The names that one of the patterns matches.

    Args:
        names: of leaves.
        patterns: each must match a name.
        what: the patterns are called in errors.

    Returns:
        The names, in their order.

    Raises:
        TreeError: a pattern matches no name.

    Example:
        >>> matching(["layers.0.weight", "layers.0.bias", "head.weight"], ("layers", "*.weight"))
        ['layers.0.weight', 'layers.0.bias', 'head.weight']
    """
    known = list(names)
    asked = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in asked:
        if not any(matches(name, pattern) for name in known):
            raise TreeError(f"{what} {pattern!r} matches no leaf: {_instead(pattern, known)}")
    return [name for name in known if any(matches(name, pattern) for pattern in asked)]


def _instead(pattern: str, known: list[str]) -> str:
    if not known:
        return "there are no leaves."
    near = nearest(pattern, [*_subtrees(known), *known]) or known
    return f"use a name, a subtree or a pattern such as '*.bias'; the nearest are {quoted(near)}."


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches a name.

    Args:
        name: of a leaf.
        pattern: a name, a subtree, or with `*`.

    Example:
        >>> matches("layers.0.bias", "layers"), matches("layers.0.bias", "*.weight")
        (True, False)
    """
    return name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)


def _subtrees(names: list[str]) -> list[str]:
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(p[:i]) for p in parts for i in range(1, len(p))))
