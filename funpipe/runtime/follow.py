"""Cuts another graph of the same model (an evaluation, another batch size) where a step keeps its leaves.

The same operations are cut at the same places. Other operations are cut late, each stage beginning at the first one
that reads a leaf which the stage before does not hold; a stage that would get nothing takes the last one before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from funpipe._errors import StageError
from funpipe.programs.layout import Layout
from funpipe.schedules import Table
from funpipe.stages import Cutter, Stage
from funpipe.stages.sources import Sources, owner_of
from funpipe.tracing.traced import Traced

Holders = dict[str, tuple[int, ...]]
"""The stages that hold each leaf, by `param.NAME` and `buffer.NAME`."""


@dataclass(frozen=True)
class Follow(Cutter):
    """Cuts a forward so that each stage reads only leaves that it holds already.

    Args:
        holders: the stages that hold each leaf.
        num_stages: how many stages there are.
        cuts: where the graph that is followed was cut.
        operators: its forward operations.
    """

    holders: Holders
    num_stages: int
    cuts: tuple[int, ...] = ()
    operators: tuple[str, ...] = ()

    def __call__(self, traced: Traced) -> tuple[int, ...]:
        """The same cuts if they fit, else the latest ones.

        Raises:
            StageError: the leaves are not read in the order of the stages, or there are too few operations.
        """
        sources = Sources(traced.graph)
        nodes = [(at, node) for at, node in enumerate(traced.forward) if not sources.floats(node)]
        written = _written(traced, sources)
        reads = [self._leaves(node, sources, written) for _, node in nodes]
        if operators(traced) == self.operators:
            stages = [sum(cut <= at for cut in self.cuts) for at, _ in nodes]
            if all(self._holds(stage, names) for stage, names in zip(stages, reads, strict=True)):
                return self.cuts
        stages = self._stages(reads)
        return tuple(nodes[stages.index(stage)][0] for stage in range(1, self.num_stages))

    def _leaves(self, node: fx.Node, sources: Sources, written: dict[fx.Node, list[str]]) -> list[str]:
        """What an operation reads or updates."""
        names = [".".join(s.meta["leaf"]) for s in sources.of(node) if s.op == "placeholder"]
        return [n for n in (*names, *written.get(node, ())) if n in self.holders]

    def _holds(self, stage: int, names: Sequence[str]) -> bool:
        return all(stage in self.holders[n] for n in names)

    def _stages(self, reads: list[list[str]]) -> list[int]:
        """The stage of each operation: as late as its leaves allow, and none skipped."""
        stages, stage = [], 0
        for names in reads:
            stage = self._first(names, stage)
            stages.append(stage)
        following = self.num_stages
        for at in reversed(range(len(stages))):
            stages[at] = following = max(stages[at], following - 1)
            if not self._holds(following, reads[at]):
                raise StageError(_order_text(reads[at], following, self.holders))
        if stages[:1] != [0]:
            raise StageError(
                f"no operation is left for stage 0: nothing that the stages from {following} on do not hold is read "
                f"before them, and each of the {self.num_stages} stages needs one. Evaluate with step.gather(state)."
            )
        return stages

    def _first(self, names: list[str], stage: int) -> int:
        """The first stage from this one on that holds everything that is read."""
        for candidate in range(stage, self.num_stages):
            if self._holds(candidate, names):
                return candidate
        raise StageError(_order_text(names, stage, self.holders))


def _written(traced: Traced, sources: Sources) -> dict[fx.Node, list[str]]:
    """The buffers that each operation updates; an evaluation drops them."""
    found: dict[fx.Node, list[str]] = {}
    for name, node in traced.outputs.items() if traced.gradients else ():
        for anchor in sources.anchors([node]) if name.startswith("buffer.") else ():
            found.setdefault(owner_of(anchor), []).append(name)
    return found


def operators(traced: Traced) -> tuple[str, ...]:
    """The forward operations of a graph, in order."""
    return tuple(str(node.target) for node in traced.forward)


def holders(layout: Layout, stages: Sequence[Stage], table: Table, buffers: Sequence[str]) -> Holders:
    """The stages that hold each parameter and buffer of a step; those of rank 0 hold unused buffers."""
    found: Holders = {f"param.{s.leaf}": (b.stage,) for b in layout.buckets for s in b.slots}
    for leaf, copies in layout.loose.items():
        found[f"param.{leaf}"] = tuple(sorted({*found.get(f"param.{leaf}", ()), *copies}))
    first = tuple(stage.index for stage in stages if table.placement[stage.index] == 0)
    for name in (f"buffer.{b}" for b in buffers):
        found[name] = tuple(s.index for s in stages if _uses(s, name)) or first
    return found


def _uses(stage: Stage, buffer: str) -> bool:
    """Whether a stage reads or updates a buffer."""
    return buffer in stage.results or any(buffer in region.inputs for region in stage.regions)


def require_held(holders: Holders, stages: Sequence[Stage]) -> None:
    """Raises if a stage reads a leaf that it does not hold, such as one that is returned as it is."""
    for stage in stages:
        for name in stage.F.inputs:
            if stage.index not in holders.get(name, (stage.index,)):
                raise StageError(_order_text([name], stage.index, holders))


def _order_text(names: Sequence[str], stage: int, holders: Holders) -> str:
    kept = "; ".join(f"{n.replace('.', ' ', 1)} on stage {' and '.join(map(str, holders[n]))}" for n in names)
    return (
        f"the evaluation reads, in stage {stage} or later, what the training step keeps elsewhere: {kept}. Use the "
        "parameters in the order in which the loss function does, or evaluate with step.gather(state)."
    )
