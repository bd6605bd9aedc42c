"""Cuts between the layers of a model, for both ways to make stages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, final

from torch import nn

import funpipe as fp
from funpipe.interop.pipelining import SplitPoint
from funpipe.interop.transformers.errors import ModelError
from funpipe.interop.transformers.layers import layers_of
from funpipe.interop.transformers.weigh import by_parameters, by_time


@final
@dataclass(frozen=True)
class SplitByLayers(fp.stages.Cutter, Mapping[str, SplitPoint]):
    """Cuts before layers; made by `split_by_layers`.

    It is what `stages=` of a train step takes, and a mapping from modules to split points, which is what `split_spec=`
    of `funpipe.interop.pipelining.pipeline` takes.

    Args:
        layers: before which a stage ends, by name.
    """

    layers: tuple[str, ...]

    def __call__(self, traced: fp.Traced) -> tuple[int, ...]:
        """The positions where these layers begin."""
        return fp.stages.split_at(dict.fromkeys(self.layers, "beginning"))(traced)

    def __getitem__(self, name: str) -> SplitPoint:
        if name not in self.layers:
            raise KeyError(name)
        return SplitPoint.BEGINNING

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)


def split_by_layers(model: nn.Module, n: int, batch: Mapping[str, Any] | None = None) -> SplitByLayers:
    """Cuts a model into `n` stages between its layers, such that the largest stage is as small as possible.

    Args:
        model: the model, on any device, `meta` included; see `layers_of` for what its layers are.
        n: the number of stages.
        batch: the model's keyword arguments, with labels. Given, a stage's size is the time of what it runs,
            embeddings and head included, by `fp.stages.Roofline`, and layers are in the order in which they run; not
            given, it is the parameters of its layers, in the order in which the model has them.

    Returns:
        The cuts, for `fp.train_step(stages=)` and for `pipeline(split_spec=)` alike.

    Raises:
        ModelError: the model has fewer layers than stages are wanted.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))))
        >>> split_by_layers(model, 2)
        SplitByLayers(layers=('1.2',))
        >>> dict(split_by_layers(model, 2))
        {'1.2': <SplitPoint.BEGINNING: 1>}
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ModelError(f"split_by_layers got n={n!r}; pass the number of stages, 1 or more.")
    names = layers_of(model, n)
    weighed = by_parameters(model, names) if batch is None else by_time(model, names, batch)
    if n > max(len(weighed), 1):
        shown = ", ".join(_ends([name for name, _ in weighed])) or "none"
        raise ModelError(
            f"{type(model).__name__} has {len(weighed)} layers in lists ({shown}), and {n} stages were asked for; "
            f"ask for at most {max(len(weighed), 1)}, or cut anywhere with fp.stages.balanced({n})."
        )
    starts = _starts(tuple(size for _, size in weighed), n)
    return SplitByLayers(tuple(weighed[start][0] for start in starts))


def _ends(names: list[str]) -> list[str]:
    """The first and the last name, and dots between them."""
    return names if len(names) < 4 else [names[0], "...", names[-1]]


def _starts(sizes: tuple[float, ...], n: int) -> tuple[int, ...]:
    """Where the parts of a row after the first begin: the largest part is as small as it can be, then the others."""

    @cache
    def best(end: int, parts: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """The sizes of the parts of the first items, largest first, and where all but the first part begin."""
        if parts == 1:
            return (sum(sizes[:end]),), ()
        found = []
        for start in range(parts - 1, end):
            before, starts = best(start, parts - 1)
            found.append((tuple(sorted((*before, sum(sizes[start:end])), reverse=True)), (*starts, start)))
        return min(found)

    return best(len(sizes), n)[1] if n > 1 else ()
