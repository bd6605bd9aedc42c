"""What a stage has to know of the pipeline it is part of."""

from dataclasses import dataclass

from torch import fx

from funpipe.interop.pipelining.wiring import Argument


@dataclass
class PipeInfo:
    """A traced model, cut into stages.

    Args:
        graph: The graph that calls the stages.
        num_stages: How many there are.
        has_loss_and_backward: Whether the graph computes the loss and its gradients.
        wiring: Where each positional input of each stage comes from.
        replicated: For each parameter that several stages use, the stages and its name in each of their modules.

    Example:
        >>> PipeInfo(fx.Graph(), 2, False, ((Argument(None, 0),), (Argument(0, 0),))).wiring[1]
        (Argument(stage=0, index=0),)
    """

    graph: fx.Graph
    num_stages: int
    has_loss_and_backward: bool
    wiring: tuple[tuple[Argument, ...], ...] = ()
    replicated: tuple[tuple[tuple[int, str], ...], ...] = ()
