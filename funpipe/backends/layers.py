"""Repeated layers in a graph, found from its operators alone: where it can be cut into equal pieces.

A region of equal layers is a sequence of operators with a period. The period is found by comparing the sequence with
itself shifted by every distance; among the positions at which it can then be cut, the one is taken that the fewest
values cross, which is where one layer ends and the next begins.
"""

import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import fx

from funpipe.tracing.operators import base_of, is_constant, is_view

_HEAVY = ("mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward", "linear", "scaled_dot_product")
"""Operators that are calls of a library: a compiler fuses nothing over them, so a cut between layers costs nothing."""


def layers(graph: fx.Graph) -> list[list[fx.Node]]:
    """The operations of a graph, in order, as pieces of which repeated layers are equal.

    Args:
        graph: flat tensors in, a tuple of tensors out; nodes have `meta["val"]`.

    Returns:
        The pieces: lists of nodes that call an operator which computes something (views and constants are not among
        them, nor the parts of an operator's several results); one list if nothing is repeated.
    """
    nodes = [n for n in graph.nodes if n.op == "call_function" and _computes(n)]
    crossing = _crossing(graph, nodes)
    cuts = [0, *_cuts(np.array(_tokens(nodes)), [_is_heavy(n) for n in nodes], crossing, 0), len(nodes)]
    return [nodes[low:high] for low, high in zip(cuts, cuts[1:], strict=False) if low < high]


def _computes(node: fx.Node) -> bool:
    return not (is_view(node) or node.target is operator.getitem or _is_number(node))


def _is_number(node: fx.Node) -> bool:
    """Whether a node is a constant that something reads; one that is returned is made where it stands."""
    return is_constant(node) and not _is_returned(node)


def _is_returned(node: fx.Node) -> bool:
    """Whether a node is an output of its graph, or a view of it is."""
    return any(reader.op == "output" or (is_view(reader) and _is_returned(reader)) for reader in node.users)


def maker_of(node: fx.Node) -> fx.Node:
    """The call that makes a node's value: views, and parts of several results, are traced back."""
    node = base_of(node)
    return maker_of(node.args[0]) if node.target is operator.getitem else node  # type: ignore[arg-type]


def _tokens(nodes: Sequence[fx.Node]) -> list[int]:
    """A number for each operation: equal for the same operator with the same numbers and the same type of result."""
    known: dict[str, int] = {}
    return [known.setdefault(_token(node), len(known)) for node in nodes]


def _token(node: fx.Node) -> str:
    args, kwargs = (fx.map_arg(part, lambda n: "%") for part in (node.args, node.kwargs))
    kinds = [(tuple(t.shape), t.dtype) for t in tensors_of(node)]
    return f"{node.target} {args} {kwargs} {kinds}"


def tensors_of(node: fx.Node) -> list[torch.Tensor]:
    """The tensors that a node makes: one, or the parts of several results."""
    value = node.meta["val"]
    return [t for t in (value if isinstance(value, tuple | list) else [value]) if isinstance(t, torch.Tensor)]


def _is_heavy(node: fx.Node) -> bool:
    name = str(node.target).removeprefix("aten.").lstrip("_")
    return name.split(".")[0].startswith(_HEAVY)


def _crossing(graph: fx.Graph, nodes: Sequence[fx.Node]) -> list[int]:
    """For each position between operations the number of values made before it and read behind it."""
    at = {node: i for i, node in enumerate(nodes)}
    last: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node in at or node.op == "output":
            last |= {maker_of(source): at.get(node, len(nodes)) for source in node.all_input_nodes}
    change = [0] * (len(nodes) + 2)
    for source, end in last.items():
        if source in at:
            change[at[source] + 1] += 1
            change[end + 1] -= 1
    return list(np.cumsum(change)[: len(nodes) + 1])


def _cuts(tokens: np.ndarray, heavy: Sequence[bool], crossing: Sequence[int], start: int) -> list[int]:
    """The positions at which a stretch of operations is cut, its ends excluded."""
    found = _repeated(tokens, heavy)
    if found is None:
        return []
    period, low, high = found
    phase = min(range(low, min(low + period, high - 2 * period + 1)), key=lambda i: crossing[start + i])
    ends = list(range(phase, high + 1, period))
    before = _cuts(tokens[: ends[0]], heavy[: ends[0]], crossing, start)
    behind = _cuts(tokens[ends[-1] :], heavy[ends[-1] :], crossing, start + ends[-1])
    return [*before, *(start + e for e in ends), *behind]


def _repeated(tokens: np.ndarray, heavy: Sequence[bool]) -> tuple[int, int, int] | None:
    """The period and the ends of the longest stretch that repeats itself and has a library call in each period."""
    best: tuple[int, int, int] | None = None
    for period in range(1, len(tokens) // 2 + 1):
        low, high = _longest(tokens[:-period] == tokens[period:])
        stretch = (period, low, high + period)
        if high - low >= period and any(heavy[low : low + period]) and (best is None or _longer(stretch, best)):
            best = stretch
    return best


def _longer(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return one[2] - one[1] > other[2] - other[1]


def _longest(equal: np.ndarray) -> tuple[int, int]:
    """The ends of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], equal.view(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    widest = int(np.argmax(ends - starts))
    return int(starts[widest]), int(ends[widest])
