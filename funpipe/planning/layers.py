"""Repeated layers of a traced forward, and cuts between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import final

from torch import fx

from funpipe._errors import StageError
from funpipe.backends.layers import layers, tensors_of
from funpipe.stages import Cutter
from funpipe.stages.sources import owner_of
from funpipe.tracing import Traced


def layer_ends(traced: Traced) -> tuple[int, ...]:
    """The positions in `traced.forward` between which equal layers lie, one after the other.

    They are found in the graph: the longest run of pieces with the same operations on the same shapes.

    Args:
        traced: the graph.

    Returns:
        One position more than there are layers, ascending; empty if nothing is repeated.

    Example:
        >>> import torch, funpipe as fp
        >>> from funpipe.planning.layers import layer_ends
        >>> def loss(p, x):
        ...     for w in p:
        ...         x = torch.tanh(x @ w)
        ...     return x.sum()
        >>> layer_ends(fp.trace(loss, [torch.ones(3, 3)] * 4, torch.ones(2, 3)))
        (0, 2, 4, 6, 8)
    """
    graph, copies = _forward(traced)
    back = {copy: node for node, copy in copies.items()}
    pieces = layers(graph)
    run = _longest_run([tuple(map(_token, piece)) for piece in pieces])
    if len(run) < 2:
        return ()
    position = {node: i for i, node in enumerate(traced.forward)}
    starts = [position[back[pieces[run[0]][0]]]]
    if run[0] > 0:
        starts = [_end(traced, position[back[pieces[run[0] - 1][-1]]])]
    return (*starts, *(_end(traced, position[back[pieces[i][-1]]]) for i in run))


@final
@dataclass(frozen=True)
class AtLayers(Cutter):
    """Cuts between the repeated layers of a model, which are found in its graph.

    Args:
        counts: how many of the layers each stage has; what comes before them is in the first stage, what comes after
            them in the last.

    Example:
        >>> import torch, funpipe as fp
        >>> from funpipe.planning import AtLayers
        >>> def loss(p, x):
        ...     for w in p:
        ...         x = torch.tanh(x @ w)
        ...     return x.sum()
        >>> AtLayers((1, 3))(fp.trace(loss, [torch.ones(3, 3)] * 4, torch.ones(2, 3)))
        (2,)
    """

    counts: tuple[int, ...]

    def __call__(self, traced: Traced) -> tuple[int, ...]:
        """The cuts; a StageError where the graph has another number of layers."""
        ends = layer_ends(traced)
        if len(ends) - 1 != sum(self.counts):
            raise StageError(
                f"the cut is for {sum(self.counts)} equal layers, but {max(len(ends) - 1, 0)} were found in the loss "
                "function's graph: plan again for this model, or cut with fp.stages.balanced(n)."
            )
        return tuple(ends[n] for n in list(accumulate(self.counts))[:-1])


def _forward(traced: Traced) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """The forward as a graph of its own, and the copy of each node."""
    graph, copies = fx.Graph(), {}
    for node in (*traced.leaves.values(), *traced.forward):
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[n] for n in traced.outputs.values()))
    return graph, copies


def _token(node: fx.Node) -> str:
    return f"{node.target} {[(tuple(t.shape), t.dtype) for t in tensors_of(node)]}"


def _longest_run(keys: Sequence[object]) -> list[int]:
    """The positions of the longest run of equal keys."""
    runs = [list(run) for _, run in groupby(range(len(keys)), key=keys.__getitem__)]
    return max(runs, key=len, default=[])


def _end(traced: Traced, position: int) -> int:
    """The position after an operation and the items of its result."""
    end = position + 1
    while end < len(traced.forward) and owner_of(traced.forward[end]) is traced.forward[position]:
        end += 1
    return end
