"""Writing a function of tensors into a graph: traced to operators, each of them once."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe.graphs import Graph, Node, eliminate_dead, from_fx
from funpipe.graphs.node import Type
from funpipe.graphs.stand_in import stand_in
from funpipe.passes.names import Names


class Inliner:
    """Writes operators under names that a graph does not have.

    Args:
        graph: whose values they read.
        origin: the pass that writes.
    """

    def __init__(self, graph: Graph, origin: str) -> None:
        self.graph, self.names, self.origin = graph, Names(graph), origin
        self._types: dict[str, Type] = {}
        self._written: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._graphs: dict[Hashable, Graph] = {}

    def type_of(self, name: str) -> Type:
        """The type of a value of the graph, or of one that was written."""
        return self._types[name] if name in self._types else self.graph.type_of(name)

    def call(self, name: str, target: Any, args: tuple[Any, ...], kind: Type, like: Node, **kwargs: Any) -> Node:
        """One operator.

        Args:
            name: it gets this name, or with a number behind it.
            target: the operator.
            args: its arguments.
            kind: the type of its value.
            like: a node whose module path and line it gets.
            **kwargs: its arguments by name.
        """
        node = Node(self.names.fresh(name), target, args, kwargs, kind, like.path, like.source, self.origin)
        self._types[node.name] = kind
        return node

    def write(
        self, function: Callable[[list[Tensor]], Sequence[Tensor]], given: Sequence[str], like: Node, key: Hashable
    ) -> tuple[list[Node], list[str]]:
        """The operators of a function; one that was written before with the same arguments is not written again.

        Args:
            function: from a list of tensors to a list of tensors; pure.
            given: the values, by name.
            like: a node whose module path and line the new ones get.
            key: of the function; two of one key are the same, and are traced once for arguments of equal types.

        Returns:
            The nodes, and the names of what the function returns.
        """
        traced = self._traced(function, [self.type_of(name) for name in given], key)
        now = {f"in.{i}": name for i, name in enumerate(given)}
        nodes = []
        for node in traced.nodes:
            made = node.renamed(now)
            text = f"{made.target} {made.args} {dict(made.kwargs)}"
            if text not in self._written:
                nodes.append(self.call(node.name, made.target, made.args, made.type, like, **made.kwargs))
                self._written[text] = nodes[-1].name
                self._keys[nodes[-1].name] = text
            now[node.name] = self._written[text]
        return nodes, [now[ref.name] for ref in traced.outputs.values()]

    def _traced(self, function: Callable[[list[Tensor]], Sequence[Tensor]], types: list[Type], key: Hashable) -> Graph:
        whole = (key, tuple(types))
        if whole not in self._graphs:
            self._graphs[whole] = trace(function, types)
        return self._graphs[whole]

    def rename(self, nodes: Sequence[Node], names: Mapping[str, str]) -> list[Node]:
        """Written nodes with other names.

        Args:
            nodes: all that read those of these names, and they themselves.
            names: the new name of each.
        """
        for old, new in names.items():
            self._types[new] = self._types.pop(old)
            if old in self._keys:
                self._keys[new] = self._keys.pop(old)
                self._written[self._keys[new]] = new
        return [replace(node.renamed(names), name=names.get(node.name, node.name)) for node in nodes]


def trace(function: Callable[[list[Tensor]], Sequence[Tensor]], types: Sequence[Type]) -> Graph:
    """The operators of a function of tensors of these types; inputs are `in.0`, `in.1`, …"""
    mode = _compat.fake_mode()
    with mode:
        module = make_fx(lambda *tensors: tuple(function(list(tensors))), tracing_mode="fake")(
            *(stand_in(kind, mode) for kind in types)
        )
    return eliminate_dead(from_fx(module.graph, [f"in.{i}" for i in range(len(types))]))
