"""What a stage's backward computes again."""

from torch import fx

from funpipe.stages import Stage


def again_nodes(stage: Stage) -> list[fx.Node]:
    return [n for n in stage.B.module.graph.nodes if n.meta.get("recomputed")] if stage.B else []


def computed_again(stage: Stage) -> list[str]:
    """The names that the forward has for them."""
    return [n.name.removesuffix("_recomputed") for n in again_nodes(stage)]
