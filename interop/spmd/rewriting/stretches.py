"""Stretches of a graph that one function can compute: tensors in, tensors out, and nothing that communicates."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, fx

from funpipe.functional.communication import NAMESPACE
from funpipe.graphs.effects import draws
from funpipe.interop.spmd.rewriting.nested import leaves

_LEFT = ("aten._fused_", "aten._foreach_add", f"{NAMESPACE}.", "funpipe_optim.")
"""Operators that are no part of a stretch begin so: collectives, and updates that are one kernel already."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Nodes that one call can stand for.

    Args:
        nodes: in order; nothing between them depends on them.
    """

    nodes: tuple[fx.Node, ...]

    @cached_property
    def inputs(self) -> tuple[fx.Node, ...]:
        """The tensors that it reads, each once."""
        inside = set(self.nodes)
        return tuple(dict.fromkeys(n for node in self.nodes for n in node.all_input_nodes if n not in inside))

    @cached_property
    def outputs(self) -> tuple[fx.Node, ...]:
        """The tensors that others read."""
        inside = set(self.nodes)
        return tuple(node for node in self.nodes if any(user not in inside for user in node.users))

    def module(self) -> fx.GraphModule:
        """It alone."""
        graph, copies = fx.Graph(), {}
        for i, node in enumerate(self.inputs):
            copies[node] = graph.placeholder(f"arg_{i}")
            copies[node].meta = dict(node.meta)
        for node in self.nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(tuple(copies[node] for node in self.outputs))
        return fx.GraphModule({}, graph)

    def replace_by(self, name: str, tag: str) -> None:
        """Puts a call of a submodule in its place.

        Args:
            name: of the submodule.
            tag: for profiles.
        """
        graph, outputs = self.nodes[0].graph, self.outputs
        with graph.inserting_after(self.nodes[-1]):
            call = graph.call_module(name, self.inputs, {"tag": tag})
        with graph.inserting_after(call):
            results = [graph.call_function(operator.getitem, (call, i)) for i in reversed(range(len(outputs)))]
        for node, result in zip(outputs, reversed(results), strict=True):
            result.meta = dict(node.meta)
            node.replace_all_uses_with(result)
        for node in reversed(self.nodes):
            graph.erase_node(node)


def stretches(graph: fx.Graph, wanted: Callable[[fx.Node], bool]) -> list[Stretch]:
    """The stretches of a graph, as long as they can be.

    Args:
        graph: parts of a result are moved to right behind it.
        wanted: whether a node may be in a stretch.

    Returns:
        In order; views of what a stretch does not compute are in none, and end none.
    """
    _gather_parts(graph)
    found: list[list[fx.Node]] = [[]]
    inside: set[fx.Node] = set()
    for node in graph.nodes:
        if wanted(node) and _is_compiled(node, inside):
            found[-1].append(node)
            inside.add(node)
        elif not _is_passed(node, inside):
            found.append([])
            inside = set()
    return [Stretch(tuple(nodes)) for nodes in found if nodes]


def _gather_parts(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        for user in reversed(list(node.users)):
            if user.target is operator.getitem:
                node.append(user)


def _is_compiled(node: fx.Node, inside: set[fx.Node]) -> bool:
    """Whether a node can be part of a stretch that has these nodes."""
    if node.op != "call_function" or not _takes_tensors(node):
        return False
    if node.target is operator.getitem:
        return node.args[0] in inside
    schema = getattr(node.target, "_schema", None)
    if schema is None or schema.is_mutable or str(node.target).startswith(_LEFT) or draws(node):
        return False
    if _is_view(node) and node.args[0] not in inside:
        return False
    return _gives_tensors(node)


def _takes_tensors(node: fx.Node) -> bool:
    return all(isinstance(value, Tensor) for n in node.all_input_nodes for value in leaves(n.meta.get("val")))


def _gives_tensors(node: fx.Node) -> bool:
    """A tensor, or several of which others read single ones."""
    value = node.meta.get("val")
    if isinstance(value, Tensor):
        return True
    parts = isinstance(value, list | tuple) and all(isinstance(item, Tensor) for item in value)
    return parts and all(user.target is operator.getitem for user in node.users)


def _is_view(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)


def _is_passed(node: fx.Node, inside: set[fx.Node]) -> bool:
    """Whether a node that is in no stretch may run before one that began in front of it."""
    if node.op in ("placeholder", "get_attr"):
        return True
    return (_is_view(node) or node.target is operator.getitem) and not inside.intersection(node.all_input_nodes)
