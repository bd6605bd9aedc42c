"""What changed between two graphs, for a person to read."""

from bisect import bisect_left
from collections.abc import Sequence

from funpipe.graphs.graph import Graph, require_graph
from funpipe.graphs.text import node_text, value_text


def diff(before: Graph, after: Graph) -> str:
    """The differences between two graphs, in the order of the second.

    Args:
        before: one graph.
        after: the other.

    Returns:
        A line for each difference: `-` a node that is gone, `+` a new one, `~` one that reads other values or calls
        another operator, `>` one that moved among those that both have; outputs in the same way. Empty if there are
        none.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import eliminate_dead, from_fx
        >>> made = make_fx(lambda x: (x.sin(), x.cos())[0], tracing_mode="fake")(torch.ones(2))
        >>> print(diff(from_fx(made.graph), eliminate_dead(from_fx(made.graph))))
        - cos: float32[2] = aten.cos.default(%x_1)
    """
    for graph in (before, after):
        require_graph(graph, "diff")
    kept = [node.name for node in after.nodes if node.name in before.by_name]
    stayed = _longest_run([before.positions[name] for name in kept])
    lines = [f"- {node_text(node)}" for node in before.nodes if node.name not in after.by_name]
    for node in after.nodes:
        old = before.by_name.get(node.name)
        if old is None:
            lines.append(f"+ {node_text(node)}")
        elif node_text(old) != node_text(node):
            lines.append(f"~ {node_text(node)}")
        elif before.positions[node.name] not in stayed:
            lines.append(f"> {node_text(node)}  (was {before.positions[node.name]}, is {after.positions[node.name]})")
    return "\n".join(lines + _outputs(before, after))


def _outputs(before: Graph, after: Graph) -> list[str]:
    names = dict.fromkeys((*before.outputs, *after.outputs))
    texts = {n: tuple(value_text(g.outputs[n]) if n in g.outputs else "" for g in (before, after)) for n in names}
    return [
        f"~ return {n} = {new or 'nothing'} (was {old or 'nothing'})" for n, (old, new) in texts.items() if old != new
    ]


def _longest_run(numbers: Sequence[int]) -> set[int]:
    """The longest subsequence that ascends: what did not move. Source: patience sorting, C. Schensted (1961)."""
    tops: list[int] = []
    piles: list[int] = []
    before: list[int] = []
    for i, number in enumerate(numbers):
        at = bisect_left(tops, number)
        tops[at:] = [number, *tops[at + 1 :]]
        piles[at:] = [i, *piles[at + 1 :]]
        before.append(piles[at - 1] if at else -1)
    found, at = set(), piles[-1] if piles else -1
    while at >= 0:
        found.add(numbers[at])
        at = before[at]
    return found
