"""`Step`, what is traced, and `TracedStep`, what comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from funpipe.interop.spmd.engine.arguments import Arguments
from funpipe.interop.spmd.engine.leaves import Leaf
from funpipe.interop.spmd.engine.shards import Shard

Reduce = Callable[[Tensor, Shard | None], Tensor]
"""Combines the ranks' gradients of a parameter, given the shard that this rank has of it."""


@dataclass(frozen=True, eq=False)
class Step:
    """What is traced.

    Args:
        function: the user's.
        call: its arguments in this call.
        state: what it may change, in the order of the graph's inputs.
        rates: the learning rates.
        reduce: what becomes of each gradient.
        shards: of parameters that are distributed, by name; the state of the others is whole on each rank.
    """

    function: Callable[..., Any]
    call: Arguments
    state: Sequence[Leaf]
    rates: Sequence[Tensor]
    reduce: Reduce
    shards: Mapping[str, Shard]


@dataclass(frozen=True, eq=False)
class TracedStep:
    """A step as a graph.

    Args:
        module: flat tensors in, a flat tuple out; `meta["inputs"]` and `meta["outputs"]` name them.
        returns: the structure of what the function returned, and its leaves, a `Hole` where an output belongs.
        constants: tensors that the step makes of numbers, its last inputs.
    """

    module: fx.GraphModule
    returns: tuple[Any, tuple[Any, ...]]
    constants: Sequence[Tensor]


LEFT = "aux.grads."
"""Outputs that are gradients which a step leaves behind, and did not find."""
