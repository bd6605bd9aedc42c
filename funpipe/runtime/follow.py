"""Cuts an evaluation where the training step keeps its leaves."""

from dataclasses import dataclass

from torch import fx

from funpipe._errors import StageError
from funpipe.programs.program import Programs
from funpipe.stages import Cutter
from funpipe.stages.sources import Sources
from funpipe.tracing.traced import Traced


@dataclass(frozen=True)
class Follow(Cutter):
    """Cuts a forward so that each stage reads only leaves that are on its rank already.

    Args:
        holders: the stages that hold each leaf, by `param.NAME` and `buffer.NAME`.
        num_stages: how many stages there are.
    """

    holders: dict[str, tuple[int, ...]]
    num_stages: int

    def __call__(self, traced: Traced) -> tuple[int, ...]:
        """A stage begins at the first operation that reads a leaf which the stage before does not hold."""
        sources, stage, cuts = Sources(traced.graph), 0, []
        for position, node in enumerate(traced.forward):
            if not sources.floats(node):
                wanted = self._stage(node, sources, stage)
                cuts += [position] * (wanted - stage)
                stage = wanted
        return tuple(cuts)

    def _stage(self, node: fx.Node, sources: Sources, stage: int) -> int:
        """The first stage from this one on that holds everything a node reads."""
        names = [".".join(s.meta["leaf"]) for s in sources.of(node) if s.op == "placeholder"]
        held = [self.holders[n] for n in names if n in self.holders]
        for candidate in range(stage, self.num_stages):
            if all(candidate in stages for stages in held):
                return candidate
        raise StageError(
            f"the evaluation reads {', '.join(names)} in stage {stage} or later, but the training step keeps it on "
            f"stages {[h for h in held if stage not in h]}: use the parameters in the order in which the loss function "
            "does, or evaluate with step.gather(state)."
        )


def holders(programs: Programs, stage_buffers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The stages that hold each parameter and buffer of a training step."""
    layout = programs.layout
    found = {f"param.{s.leaf}": (b.stage,) for b in layout.buckets for s in b.slots}
    for leaf, stages in layout.loose.items():
        found[f"param.{leaf}"] = tuple(sorted({*found.get(f"param.{leaf}", ()), *stages}))
    return found | {f"buffer.{n}": stages for n, stages in stage_buffers.items()}
