"""A model cut into any number of stages, and what these take."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import final

from funpipe.planning.load import Load, loads
from funpipe.planning.region_costs import RegionCosts
from funpipe.planning.source import Source
from funpipe.stages import Cutter, Remat, balanced, partition, rematerialise
from funpipe.stages.line import Line


@dataclass(frozen=True)
class Cut:
    """A cut of a model, and what its stages take.

    Args:
        cutter: for `train_step`.
        loads: of the stages, in order.
    """

    cutter: Cutter
    loads: tuple[Load, ...]


class Model(ABC):
    """A model that can be cut into any number of stages."""

    @abstractmethod
    def most_stages(self, rows: int) -> int:
        """Into how many stages the model can be cut, for microbatches of so many rows."""

    @abstractmethod
    def whole(self, rows: int) -> Load:
        """The whole model as one stage, for microbatches of so many rows; the times are sums over its operations."""

    @abstractmethod
    def cut(self, rows: int, num_stages: int, remat: Remat) -> Cut:
        """Cuts a model.

        Args:
            rows: of a microbatch.
            num_stages: how many.
            remat: what backwards compute again.

        Raises:
            StageError: there is no such cut.
        """


@final
@dataclass(frozen=True, eq=False)
class CutAnywhere(Model):
    """A model that is cut where its stages are balanced best, partitioned as it will run.

    Args:
        source: what is trained.
    """

    source: Source
    _made: dict[tuple[int, int, Remat], Cut] = field(default_factory=dict)
    _whole: dict[int, Load] = field(default_factory=dict)

    def most_stages(self, rows: int) -> int:
        """As many as there are operations that a stage can own."""
        return len(Line(self.source.traced(rows)[0]).boundaries) - 1

    def whole(self, rows: int) -> Load:
        """What all operations take together."""
        if rows not in self._whole:
            traced, costs = self.source.traced(rows)
            plain = costs.costs if isinstance(costs, RegionCosts) else costs
            self._whole[rows] = loads(traced, partition(traced, ()), plain, self.source.slots)[0]
        return self._whole[rows]

    def cut(self, rows: int, num_stages: int, remat: Remat) -> Cut:
        """See `Model.cut`."""
        key = rows, num_stages, remat
        if key not in self._made:
            self._made[key] = self._cut(*key)
        return self._made[key]

    def _cut(self, rows: int, num_stages: int, remat: Remat) -> Cut:
        traced, costs = self.source.traced(rows)
        cutter = balanced(num_stages, costs)
        stages = rematerialise(partition(traced, cutter(traced)), remat)
        return Cut(cutter, loads(traced, stages, costs, self.source.slots))
