"""A graph module as an immutable `Graph`, and a changed `Graph` written back into the same module.

What a pass leaves alone stays the same `fx.Node`, so that nodes somebody holds stay valid.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx

from funpipe.graphs import Graph, from_fx, map_refs, to_fx
from funpipe.graphs.complete import complete
from funpipe.interop.spmd.errors import SpmdValueError
from funpipe.interop.spmd.rewriting.nested import leaves, map_nested, refilled

INPUTS, OUTPUTS, OBJECTS = "inputs", "outputs", "objects"
"""Entries of `gm.meta`: names of placeholders and of outputs as a `Graph` has them, and what text arguments name."""


def graph_of(gm: Any) -> Graph:
    """A graph module's graph as a value.

    Args:
        gm: calls of operators; `meta["inputs"]` and `meta["outputs"]` name its placeholders and outputs in order
            (`state.LEAF`, `batch.NAME`, `aux.NAME`). Without them inputs are `batch.NAME`, outputs `aux.0`, `aux.1`, …

    Returns:
        The graph; tensors that the module holds are inputs named `const.NAME`.

    Raises:
        SpmdValueError: there are more or fewer names than inputs or outputs.
        GraphError: a call that was inserted cannot take what it is given.
    """
    complete(gm.graph)
    flat, given = _flattened(gm.graph), _input_names(gm)
    inputs = [given[n.name] if n.name in given else f"const.{n.target}" for n in flat.find_nodes(op="placeholder")]
    constants = {f"const.{n.target}": _attribute(gm, str(n.target)) for n in gm.graph.find_nodes(op="get_attr")}
    return from_fx(flat, inputs, _output_names(gm), constants=constants, objects=gm.meta.get(OBJECTS, {}))


def _attribute(gm: Any, path: str) -> Any:
    found = getattr(gm, "main_gm", gm)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _input_names(gm: Any) -> dict[str, str]:
    own = [node.name for node in gm.graph.find_nodes(op="placeholder")]
    names = gm.meta.get(INPUTS) or [f"batch.{name}" for name in own]
    _require_count(INPUTS, names, len(own))
    return dict(zip(own, names, strict=True))


def _output_names(gm: Any) -> list[str]:
    count = sum(1 for _ in leaves(returned(gm.graph)))
    names = gm.meta.get(OUTPUTS) or [f"aux.{i}" for i in range(count)]
    _require_count(OUTPUTS, names, count)
    return list(names)


def _require_count(what: str, names: Sequence[str], count: int) -> None:
    if len(names) != count:
        raise SpmdValueError(
            f"the graph has {count} {what}, and meta[{what!r}] has {len(names)} names: where a placeholder or an "
            "output is added or removed, change the names, too (state.LEAF, batch.NAME, aux.NAME)."
        )


def returned(graph: fx.Graph) -> Any:
    """What a graph returns, nested as it is."""
    return graph.find_nodes(op="output")[0].args[0]


def copied(gm: fx.GraphModule) -> fx.GraphModule:
    """A graph module with a graph of its own, whose nodes have the same names."""
    made = fx.Graph()
    made.output(made.graph_copy(gm.graph, {}))
    return fx.GraphModule(gm, made)


def _flattened(graph: fx.Graph) -> fx.Graph:
    """A copy whose held tensors are placeholders and whose outputs are one flat tuple; nodes keep their names."""
    flat, copies = fx.Graph(), {}
    for node in graph.nodes:
        if node.op == "output":
            flat.output(tuple(leaves(map_nested(copies.__getitem__, node.args[0]))))
        elif node.op == "get_attr":
            shared = next((c for n, c in copies.items() if n.op == "get_attr" and n.target == node.target), None)
            copies[node] = shared or flat.create_node("placeholder", node.target, name=node.name)  # type: ignore[arg-type]
            copies[node].meta = dict(node.meta)
        else:
            copies[node] = flat.node_copy(node, copies.__getitem__)
    return flat


def write_back(gm: Any, after: Graph) -> dict[str, fx.Node]:
    """Gives a graph module the nodes of a graph, in its order.

    Args:
        gm: is changed: nodes that `after` has under their name and operator stay and get its arguments; others are
            made, and named by fx after their operator; those that it does not have are erased.
        after: with the inputs and outputs of `gm`.

    Returns:
        The node of each value of `after`, inputs included.
    """
    graph, output = gm.graph, gm.graph.find_nodes(op="output")[0]
    own = {n.name: n for n in after.nodes}
    kept = {n.name: n for n in graph.nodes if n.name in own and own[n.name].target == n.target}
    made = {n.name: n.meta for n in to_fx(after).graph.nodes} if len(kept) < len(own) else {}
    nodes: dict[str, fx.Node] = _inputs(gm)
    stay = set(graph.find_nodes(op="placeholder")) | set(graph.find_nodes(op="get_attr"))
    for node in after.nodes:
        args, kwargs = _with_nodes(nodes, node.args), _with_nodes(nodes, dict(node.kwargs))
        if node.name in kept:
            nodes[node.name] = _again(kept[node.name], output, args, kwargs)
        else:
            nodes[node.name] = _call(graph, output, node.target, args, kwargs, made[node.name])
    values = iter([_with_nodes(nodes, value) for value in after.outputs.values()])
    output.args = (refilled(output.args[0], values),)
    _erase(graph, {*nodes.values(), *stay, output})
    return nodes


def _inputs(gm: Any) -> dict[str, fx.Node]:
    held = {f"const.{node.target}": node for node in gm.graph.find_nodes(op="get_attr")}
    names = _input_names(gm)
    return held | {names[node.name]: node for node in gm.graph.find_nodes(op="placeholder")}


def _with_nodes(nodes: Mapping[str, fx.Node], value: Any) -> Any:
    return map_refs(lambda ref: nodes[ref.name], value)


def _again(node: fx.Node, before: fx.Node, args: Any, kwargs: Any) -> fx.Node:
    node.args, node.kwargs = args, kwargs
    before.prepend(node)
    return node


def _call(graph: fx.Graph, before: fx.Node, target: Callable[..., Any], args: Any, kwargs: Any, meta: Any) -> fx.Node:
    with graph.inserting_before(before):
        node = graph.call_function(target, args, kwargs)
    node.meta = dict(meta)
    return node


def _erase(graph: fx.Graph, kept: set[fx.Node]) -> None:
    for node in reversed(list(graph.nodes)):
        if node not in kept:
            node.users.clear()  # what read it is gone, too; a mark against removal may be left
            graph.erase_node(node)
