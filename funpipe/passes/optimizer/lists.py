"""Splitting and joining calls over lists."""

from collections.abc import Sequence
from dataclasses import replace

from funpipe._errors import GraphError
from funpipe.graphs import Graph, Node
from funpipe.passes.names import Names
from funpipe.passes.optimizer.list_calls import ListCall, Row, is_list_call, read_lists, takers, write_lists


def joined(calls: Sequence[ListCall], order: Sequence[tuple[int, int]]) -> ListCall:
    """One call in place of several that differ in their lists alone.

    Args:
        calls: the calls.
        order: the leaves of the new call: for each the index of its call, and its own index there.
    """
    first = calls[0]
    lists = {n: _joined([call.lists[n] for call in calls], order) for n in first.lists}
    results = _joined([call.results for call in calls], order)
    types = _joined([call.types for call in calls], order)
    return replace(first, count=len(order), lists=lists, results=results, types=types)


def _joined(rows: Sequence[tuple[Row, ...]], order: Sequence[tuple[int, int]]) -> tuple[Row, ...]:
    """Row by row the items of several calls."""
    return tuple(tuple(rows[c][j][i] for c, i in order) if row else () for j, row in enumerate(rows[0]))


def split_lists(graph: Graph, node: Node | str, parts: Sequence[Sequence[int]], origin: str = "split") -> Graph:
    """Several calls in place of one; the values keep their names, and so do all that read them.

    Args:
        graph: the graph.
        node: a call over lists, or its name.
        parts: the indices of the leaves of each new call; together every index once.
        origin: the pass that asks for it.

    Returns:
        The graph, with the new calls where the old one was.

    Raises:
        GraphError: the node is no call over lists, or an index is missing, unknown or there twice.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> module = make_fx(lambda a, b: torch._foreach_add([a, b], 1), tracing_mode="fake")(*torch.ones(2, 1))
        >>> print(split_lists(from_fx(module.graph), "_foreach_add", [[1], [0]]).as_text())
        a_1: float32[1]
        b_1: float32[1]
        _foreach_add: (float32[1]) = aten._foreach_add.Scalar([%b_1], 1)  # by split
        getitem_1: float32[1] = getitem(%_foreach_add, 0)
        _foreach_add_1: (float32[1]) = aten._foreach_add.Scalar([%a_1], 1)  # by split
        getitem: float32[1] = getitem(%_foreach_add_1, 0)
        return out.0 = %getitem
        return out.1 = %getitem_1
    """
    node = graph.node(node) if isinstance(node, str) else node
    if not is_list_call(node):
        raise GraphError(f"{node.where} is no call over lists that align by index: pass a _foreach_ or _fused_ one.")
    call = read_lists(graph, node)
    if sorted(i for part in parts for i in part) != list(range(call.count)):
        raise GraphError(
            f"{node.where} has {call.count} leaves, and the parts are {[list(p) for p in parts]}: name every index "
            f"from 0 to {call.count - 1} once."
        )
    return rewritten(graph, [call], [call.select(part) for part in parts if part], origin)


def rewritten(graph: Graph, old: Sequence[ListCall], new: Sequence[ListCall], origin: str) -> Graph:
    """The graph with other calls of the same results in place of some; they stand where the last of the old ones did.

    Args:
        graph: the graph.
        old: calls of it.
        new: calls with the same results.
        origin: the pass that asks for it.
    """
    gone = {name for call in old for name in takers(graph, call)}
    last = max(graph.positions[call.node.name] for call in old)
    names = Names(graph)
    for name in gone:
        names.release(name)
    for call in new:
        names.taken.update(call.names)
    made = [node for call in new for node in write_lists(call, names, origin)]
    before = [n for n in graph.nodes[:last] if n.name not in gone]
    return graph.replace(nodes=(*before, *made, *(n for n in graph.nodes[last:] if n.name not in gone)))
