"""Operators over lists whose arguments align by index: `_foreach_*`, `_fused_*`, and the update of `funpipe.optim`.

    new = op([p0, p1, p2], [g0, g1, g2], number)

The i-th result is made of the i-th items alone, so such a call may be split and joined by index. A list may hold
several rows: slots [m0, m1, m2, v0, v1, v2] are two.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from funpipe._errors import GraphError
from funpipe.graphs import Graph, Node, Ref
from funpipe.graphs.node import Type, given
from funpipe.passes.names import Names

Row = tuple[Any, ...]
"""One item for each leaf."""


@dataclass(frozen=True, eq=False)
class ListCall:
    """A call over lists.

    Args:
        node: the call.
        count: the number of leaves.
        lists: its list arguments by name, as rows of `count` items.
        others: its other arguments by name.
        results: for each row of results and each leaf, the `getitem` nodes that take it out.
        types: for each row of results and each leaf, its type.
    """

    node: Node
    count: int
    lists: Mapping[str, tuple[Row, ...]]
    others: Mapping[str, Any]
    results: tuple[tuple[tuple[Node, ...], ...], ...]
    types: tuple[tuple[Type, ...], ...]

    def select(self, indices: Sequence[int]) -> "ListCall":
        """The call for some of the leaves.

        Args:
            indices: of the leaves, in the wanted order.
        """
        return replace(
            self,
            count=len(indices),
            lists={name: tuple(_pick(row, indices) for row in rows) for name, rows in self.lists.items()},
            results=tuple(_pick(row, indices) if row else row for row in self.results),
            types=tuple(_pick(row, indices) if row else row for row in self.types),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its results, those of no reader excluded."""
        return tuple(node.name for row in self.results for nodes in row for node in nodes)


def _pick(row: Row, indices: Sequence[int]) -> Row:
    return tuple(row[i] for i in indices)


def is_list_call(node: Node) -> bool:
    """Whether a node calls a pure operator whose first argument is a list of tensors, with as many results."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or schema.is_mutable or not schema.arguments or not schema.returns:
        return False
    return _is_list(schema.arguments[0].type) and all(_is_list(r.type) for r in schema.returns) and _aligns(node)


def _is_list(kind: Any) -> bool:
    return str(kind) == "List[Tensor]"


def _aligns(node: Node) -> bool:
    name = node.target._schema.name.split("::")
    return name[-1].startswith(("_foreach_", "_fused_")) or name == ["funpipe_optim", "update"]


def read_lists(graph: Graph, node: Node) -> ListCall:
    """Reads a call over lists.

    Args:
        graph: the graph.
        node: a call for which `is_list_call` holds.

    Raises:
        GraphError: something reads a whole list of results, not its items.
    """
    schema = node.target._schema
    named = given(node)
    count = len(named[schema.arguments[0].name])
    kinds = {a.name: str(a.type) for a in schema.arguments}
    lists = {n: _rows(v, count) for n, v in named.items() if kinds[n] in ("List[Tensor]", "List[number]")}
    taken, types = _results(graph, node, count, len(schema.returns))
    others = {name: value for name, value in named.items() if name not in lists}
    return ListCall(node, count, lists, others, taken, types)


def _rows(items: Sequence[Any], count: int) -> tuple[Row, ...]:
    return tuple(tuple(items[at : at + count]) for at in range(0, len(items), max(count, 1)))


def _results(graph: Graph, node: Node, count: int, returns: int) -> tuple[Any, Any]:
    """The `getitem` nodes and the types of all results, as rows."""
    if returns == 1:
        flat = tuple(_items(graph, node, i) for i in range(len(node.type)))
        return _rows(flat, count), _rows(node.type, count)
    taken = []
    for j, kinds in enumerate(node.type):
        parts = _items(graph, node, j)
        rows = [tuple(n for part in parts for n in _items(graph, part, i)) for i in range(len(kinds))]
        taken.append(tuple(rows))
    return tuple(taken), tuple(node.type)


def _items(graph: Graph, node: Node, index: int) -> tuple[Node, ...]:
    readers = graph.readers(node.name)
    whole = [r for r in readers if r.target is not operator.getitem]
    if whole or node.name in graph.returned:
        reader = whole[0].where if whole else "an output"
        raise GraphError(
            f"{reader} reads the whole list that {node.where} gives, and only its items can be told apart: let it read "
            "the items, getitem(list, i)."
        )
    return tuple(r for r in readers if r.args[1] == index)


def write_lists(call: ListCall, names: Names, origin: str) -> list[Node]:
    """The nodes of a call: itself, and the `getitem` of each result, in the order of the results.

    Args:
        call: the call; its node gives name, operator and the user's line.
        names: of the graph that it is written for.
        origin: the pass that writes it.
    """
    schema = call.node.target._schema
    nested = len(schema.returns) > 1
    given = {n: [item for row in rows for item in row] for n, rows in call.lists.items()} | dict(call.others)
    args = tuple(given[a.name] for a in schema.arguments if not a.kwarg_only and a.name in given)
    kwargs = {a.name: given[a.name] for a in schema.arguments if a.kwarg_only and a.name in given}
    kind = call.types if nested else tuple(t for row in call.types for t in row)
    name = names.fresh(call.node.name)
    nodes = [replace(call.node, name=name, args=args, kwargs=kwargs, type=kind, origin=origin)]
    for j, row in enumerate(call.results):
        source, start = (names.fresh(f"{name}_out"), 0) if nested and any(row) else (name, j * call.count)
        if source != name:
            made = {"target": operator.getitem, "args": (Ref(name), j), "kwargs": {}, "type": call.types[j]}
            nodes.append(replace(nodes[0], name=source, **made))
        nodes += [replace(n, args=(Ref(source), start + i)) for i, found in enumerate(row) for n in found]
    return nodes


def takers(graph: Graph, call: ListCall) -> set[str]:
    """The names of the nodes that a call's own writing replaces: it, the lists of its results, and their items."""
    inner = {r.name for r in graph.readers(call.node.name)}
    return {call.node.name, *inner, *call.names}
