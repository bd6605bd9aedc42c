"""A model of many equal layers, from a trace of a few of them.

What a stage takes is affine in the number of its layers: the second layer of a stage adds what the third adds. So three
partitions of the traced graph tell what any others take: one with one layer in the first, in a middle and in the last
stage, one with two, and one with none at the ends.
"""

from dataclasses import dataclass, field, replace
from typing import final

from funpipe._errors import PlanError, StageError
from funpipe.planning.layers import AtLayers, layer_ends
from funpipe.planning.load import Load, loads
from funpipe.planning.model import Cut, Model
from funpipe.planning.source import Source
from funpipe.stages import Remat, partition, rematerialise
from funpipe.stages.sources import Sources
from funpipe.tracing import Traced

FEWEST = 5
"""Layers in the trace: one at each end, and between them one alone and two together."""


@dataclass(frozen=True)
class Growing:
    """A stage at one place of the pipeline, with any number of layers.

    Args:
        bare: without any; None: there is nothing else in it.
        one: with one layer.
        layer: what another adds.
    """

    bare: Load | None
    one: Load
    layer: Load

    def of(self, layers: int) -> Load:
        """The stage with some layers, none only where there is something else."""
        return self.bare if layers == 0 and self.bare is not None else self.one.plus(self.layer, layers - 1)


@dataclass(frozen=True)
class Kinds:
    """What stages take at the three places where they differ: first, between others, last."""

    first: Growing
    middle: Growing
    last: Growing

    def at(self, index: int, num_stages: int) -> Growing:
        """The stage of an index, of at least two."""
        return {0: self.first, num_stages - 1: self.last}.get(index, self.middle)

    def whole(self, layers: int) -> Load:
        """All as one stage, which receives nothing and has nothing to wait for between I and W."""
        made = self.first.one.plus(self.last.one, 1).plus(self.first.layer, layers - 2)
        return replace(made, I=0.0, W=made.B, forward=0, backward=0)


@final
@dataclass(frozen=True, eq=False)
class CutAtLayers(Model):
    """A model that is cut between its layers.

    Args:
        source: what is trained, with few layers.
        layers: how many there really are.
    """

    source: Source
    layers: int
    _kinds: dict[tuple[int, Remat], Kinds] = field(default_factory=dict)

    def most_stages(self, rows: int) -> int:
        """One for each layer, and one for each end that is something."""
        kinds = self.kinds(rows, "none")
        return self.layers + (kinds.first.bare is not None) + (kinds.last.bare is not None)

    def whole(self, rows: int) -> Load:
        """All layers together."""
        return self.kinds(rows, "none").whole(self.layers)

    def kinds(self, rows: int, remat: Remat) -> Kinds:
        """What stages take, from partitions of the trace."""
        if (rows, remat) not in self._kinds:
            self._kinds[rows, remat] = self._measured(rows, remat)
        return self._kinds[rows, remat]

    def cut(self, rows: int, num_stages: int, remat: Remat) -> Cut:
        """See `Model.cut`."""
        kinds = self.kinds(rows, remat)
        if num_stages == 1:
            return Cut(AtLayers((self.layers,)), (kinds.whole(self.layers),))
        counts = share(kinds, self.layers, num_stages)
        return Cut(AtLayers(counts), tuple(kinds.at(i, num_stages).of(n) for i, n in enumerate(counts)))

    def _measured(self, rows: int, remat: Remat) -> Kinds:
        if remat not in ("none", "full"):
            raise PlanError(f"remat={remat!r} with layers={self.layers}; use 'none' and 'full', or leave layers out.")
        traced, _ = self.source.traced(rows)
        ends = layer_ends(traced)
        if len(ends) <= FEWEST or len(ends) - 1 > self.layers:
            enough = (
                f"plan a model of {FEWEST} to {self.layers} of them, or leave" if self.layers >= FEWEST else "leave"
            )
            raise PlanError(
                f"layers={self.layers}, but {max(len(ends) - 1, 0)} equal layers were found in the loss function's "
                f"graph: {enough} layers out."
            )
        before, after = _has(traced, 0, ends[0]), _has(traced, ends[-1], len(traced.forward))
        one = self._loads(rows, remat, [ends[1], ends[2], ends[4], ends[-2]])
        two = self._loads(rows, remat, [ends[2], ends[-3]])
        bare = self._loads(rows, remat, [*ends[:1] * before, *ends[-1:] * after])
        return Kinds(
            first=Growing(bare[0] if before else None, one[0], two[0].minus(one[0])),
            middle=Growing(None, one[1], one[2].minus(one[1])),
            last=Growing(bare[-1] if after else None, one[-1], two[-1].minus(one[-1])),
        )

    def _loads(self, rows: int, remat: Remat, cuts: list[int]) -> tuple[Load, ...]:
        traced, costs = self.source.traced(rows)
        stages = rematerialise(partition(traced, tuple(dict.fromkeys(cuts))), remat)
        return loads(traced, stages, costs, self.source.slots)


def share(kinds: Kinds, layers: int, num_stages: int) -> tuple[int, ...]:
    """How many layers each stage gets, such that the slowest is as fast as possible.

    Of several the one with the fewest layers at the ends, which hold the most besides.

    Args:
        kinds: what stages take.
        layers: how many there are.
        num_stages: at least 2.

    Raises:
        StageError: there are more stages than layers and ends.
    """
    least = [int(kinds.first.bare is None), *[1] * (num_stages - 2), int(kinds.last.bare is None)]
    if sum(least) > layers:
        most = num_stages - sum(least) + layers
        raise StageError(f"{num_stages} stages are more than {layers} layers and their ends give; use at most {most}.")
    counts = list(least)
    for _ in range(layers - sum(least)):
        counts[_cheapest(kinds, counts)] += 1
    return tuple(counts)


def _cheapest(kinds: Kinds, counts: list[int]) -> int:
    """The stage that is fastest with one more layer; of equal ones a middle one, as late as possible.

    Giving layer by layer to the stage that is then the fastest makes the slowest as fast as it can be, because times
    only grow with layers.
    """
    last = len(counts) - 1
    return min(range(last + 1), key=lambda i: (_time(kinds.at(i, last + 1).of(counts[i] + 1)), i in (0, last), -i))


def _time(load: Load) -> float:
    return load.F + load.B


def _has(traced: Traced, low: int, high: int) -> bool:
    """Whether a stage can be made of these nodes."""
    sources = Sources(traced.graph)
    return any(not sources.floats(n) for n in traced.forward[low:high])
