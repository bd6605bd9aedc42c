"""Costs for a plan whose stages are measured region by region."""

from dataclasses import dataclass, replace
from typing import final

from torch import fx

from funpipe.backends.compiled import Report, silent
from funpipe.planning.profile import profile_stages
from funpipe.stages import Costs, Stage, StageCosts, split_backward
from funpipe.tracing import Traced


@final
@dataclass(frozen=True)
class RegionCosts:
    """Costs of nodes to cut by, and measured times of the regions of each cut that a plan looks at.

    The regions are those that a compiled step calls, so nothing is lost by adding up operations; each is compiled for
    it, which takes as long as compiling a step. Where there are several processes, all of them plan alike.

    Args:
        costs: of nodes, such as `profile` gives.
        backend: `"step"`, or `"interpret"`: operator by operator.
        report: is told before each graph that is compiled.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace(lambda p, x: (x @ p).sum(), torch.ones(64, 64), torch.ones(8, 64))
        >>> costs = fp.planning.RegionCosts(fp.stages.Roofline(), backend="interpret")
        >>> min(costs.of_stages(traced, fp.stages.partition(traced, ())).F) > 0
        True
    """

    costs: Costs
    backend: str = "step"
    report: Report = silent

    def node(self, node: fx.Node) -> float:
        """The time of one node, in seconds."""
        return self.costs.node(node)

    def transfer(self, nbytes: int) -> float:
        """The time of a message, in seconds."""
        return self.costs.transfer(nbytes)

    def of_stages(self, traced: Traced, stages: tuple[Stage, ...]) -> StageCosts:
        """The costs of a partition with measured times, of B as a whole and of its two parts.

        Args:
            traced: the graph of one microbatch.
            stages: its partition.
        """
        whole = profile_stages(traced, stages, backend=self.backend, report=self.report)
        parts = profile_stages(traced, split_backward(stages), backend=self.backend, report=self.report)
        return replace(whole, I=parts.I, W=parts.W)
