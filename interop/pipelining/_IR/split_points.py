"""Split points given by the names of submodules, and how they get into a model and out of it again."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.utils.hooks import RemovableHandle

from funpipe.interop.pipelining._IR.marks import pipe_split
from funpipe.interop.pipelining.errors import PipeAttributeError, PipeValueError


class SplitPoint(Enum):
    """On which side of a submodule's call a stage ends.

    Example:
        >>> {"layers.4": SplitPoint.BEGINNING}
        {'layers.4': <SplitPoint.BEGINNING: 1>}
    """

    BEGINNING = 1
    END = 2


class PipeSplitWrapper:
    """The older home of `SplitPoint`; code written for it reads `PipeSplitWrapper.SplitPoint.BEGINNING`."""

    SplitPoint = SplitPoint


_annotated: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()


def annotate_split_points(mod: nn.Module, spec: Mapping[str, SplitPoint]) -> None:
    """Marks split points in a model until further notice; `pipeline(..., split_spec=)` does so only while it traces.

    The marks are hooks of the submodules, whose `forward` stays what it is. Of two annotations of one submodule the
    last one counts.

    Args:
        mod: the model.
        spec: for each submodule by its dotted name, on which side of its call a stage ends.

    Raises:
        PipeAttributeError: a submodule does not exist.
        PipeValueError: a value is not a `SplitPoint`.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> annotate_split_points(model, {"0": SplitPoint.END})
        >>> annotate_split_points(model, {"0": SplitPoint.END})
        >>> from funpipe.interop.pipelining import pipeline
        >>> import torch
        >>> pipeline(model, (torch.ones(1, 2),)).num_stages
        2
    """
    for module, point in _resolved(mod, spec):
        if module in _annotated:
            _annotated[module].remove()
        _annotated[module] = _hook(module, point)


@contextmanager
def split_points(mod: nn.Module, spec: Mapping[str, SplitPoint]) -> Iterator[None]:
    """Within it a model has these split points; after it, it is what it was before.

    Args:
        mod: the model.
        spec: as for `annotate_split_points`, which says what is raised.
    """
    handles = [_hook(module, point) for module, point in _resolved(mod, spec)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _resolved(mod: nn.Module, spec: Mapping[str, SplitPoint]) -> list[tuple[nn.Module, SplitPoint]]:
    """The submodules and their points, all checked before the first is touched."""
    for name, point in spec.items():
        if not isinstance(point, SplitPoint):
            raise PipeValueError(
                f"Unknown split point type. split_spec[{name!r}] is {point!r}; "
                "give SplitPoint.BEGINNING or SplitPoint.END."
            )
    return [(_submodule(mod, name), point) for name, point in spec.items()]


def _submodule(mod: nn.Module, name: str) -> nn.Module:
    parts = name.split(".")
    for depth in range(len(parts)):
        child = dict(mod.named_modules(remove_duplicate=False)).get(".".join(parts[: depth + 1]))
        if child is None or not name:
            raise PipeAttributeError(
                f"Specified target {name} referenced nonexistent module {'.'.join(parts[: depth + 1])}; "
                f"{_nearest(mod, name)}"
            )
    return mod.get_submodule(name)


def _nearest(mod: nn.Module, name: str) -> str:
    names = [found for found, _ in mod.named_modules() if found]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"the nearest submodule is {close[0]!r}." if close else "the model has no submodules: use pipe_split()."


def _hook(module: nn.Module, point: SplitPoint) -> RemovableHandle:
    if point is SplitPoint.BEGINNING:
        return module.register_forward_pre_hook(_before)
    return module.register_forward_hook(_after)


def _before(module: nn.Module, args: Any) -> None:
    pipe_split()


def _after(module: nn.Module, args: Any, output: Any) -> None:
    pipe_split()
