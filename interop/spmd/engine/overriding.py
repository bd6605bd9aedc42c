"""Submodules replaced while a step is traced, and put back: the user's model stays what it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from torch import nn


class Replaces(Protocol):
    """What chooses replacements; see `funpipe.interop.spmd.api.Override`."""

    def replacement(self, fqn: str, orig_submodule: nn.Module) -> nn.Module:
        """What to put in the place of a submodule; the submodule itself to leave it."""
        ...


@dataclass(frozen=True, eq=False)
class Replacement:
    """One submodule and what takes its place.

    Args:
        parent: the module that holds it.
        name: under which name.
        original: the submodule.
        replacement: the other module.
    """

    parent: nn.Module
    name: str
    original: nn.Module
    replacement: nn.Module


def replacements(model: nn.Module, overrides: Sequence[Replaces]) -> list[Replacement]:
    """What overrides put in the place of which submodules; what is replaced is not looked into.

    Args:
        model: of the step.
        overrides: each is asked about every submodule, from the top; the first that has another one decides.
    """
    return list(_replacements(model, "", overrides)) if overrides else []


def _replacements(parent: nn.Module, path: str, overrides: Sequence[Replaces]) -> Iterator[Replacement]:
    for name, child in parent.named_children():
        fqn = f"{path}.{name}" if path else name
        made = (override.replacement(fqn, child) for override in overrides)
        other = next((m for m in made if m is not child), child)
        if other is child:
            yield from _replacements(child, fqn, overrides)
        else:
            yield Replacement(parent, name, child, other)


@contextmanager
def replaced(found: Sequence[Replacement]) -> Iterator[None]:
    """While open, the replacements are in their places.

    Args:
        found: what to replace.
    """
    for one in found:
        setattr(one.parent, one.name, one.replacement)
    try:
        yield
    finally:
        for one in found:
            setattr(one.parent, one.name, one.original)
