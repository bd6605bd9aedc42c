"""Writes one graph out of several: pieces are joined by the names that a program gives its values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from funpipe._errors import ProgramError
from funpipe._typing import TensorType
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, Ref, Type


class GraphBuilder:
    """A graph that grows at its end.

    Args:
        objects: what text arguments of operators name.

    Attributes:
        values: for each value of the program its name in the graph.
    """

    def __init__(self, objects: Mapping[str, Any] | None = None) -> None:
        self.inputs: dict[str, TensorType] = {}
        self.nodes: list[Node] = []
        self.constants: dict[str, Tensor] = {}
        self.objects: dict[str, Any] = dict(objects or {})
        self.values: dict[str, str] = {}
        self._types: dict[str, Type] = {}
        self._numbers: dict[str, int] = {}

    def input(self, name: str, kind: TensorType, value: str) -> None:
        """Adds an input.

        Args:
            name: its name in the graph.
            kind: its type.
            value: its name in the program.
        """
        self.inputs[name] = self._types[name] = kind
        self.values[value] = name

    def type_of(self, name: str) -> Type:
        """The type of a value, by its name in the graph."""
        return self._types[name]

    def call(self, target: Any, args: tuple[Any, ...], kind: Type, name: str, origin: str) -> str:
        """Adds an operator; the name of its value is the wanted one, or with a number behind it."""
        node = Node(self._fresh(name), target, args, type=kind, origin=origin)
        self._add(node)
        return node.name

    def join(self, piece: Graph, arguments: Sequence[str], suffix: str = "", origin: str = "") -> list[str]:
        """Adds the nodes of another graph.

        Args:
            piece: inputs and outputs in order, whatever their names.
            arguments: the value, in this graph, for each input that is no constant.
            suffix: behind the names of its nodes.
            origin: of nodes that have none.

        Returns:
            The names, in this graph, of its outputs.
        """
        free = [name for name in piece.inputs if name not in piece.constants]
        names = dict(zip(free, arguments, strict=True))
        names |= {name: self._constant(name, tensor) for name, tensor in piece.constants.items()}
        for node in piece.nodes:
            made = replace(node.renamed(names), name=self._fresh(node.name + suffix), origin=node.origin or origin)
            names[node.name] = made.name
            self._add(made)
        return [self._output(value, names) for value in piece.outputs.values()]

    def graph(self, outputs: Mapping[str, str]) -> Graph:
        """The graph with these values as outputs, by name."""
        returned = {name: Ref(value) for name, value in outputs.items()}
        return Graph(self.inputs, tuple(self.nodes), returned, self.constants, self.objects)

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        self._types[node.name] = node.type

    def _constant(self, name: str, tensor: Tensor) -> str:
        """A tensor that a piece closes over; its own input."""
        key = self._fresh(name)
        self.inputs[key] = self._types[key] = TensorType.of(tensor)
        self.constants[key] = tensor
        return key

    def _fresh(self, name: str) -> str:
        tried = name
        while tried in self._types:
            self._numbers[name] = self._numbers.get(name, 0) + 1
            tried = f"{name}_{self._numbers[name]}"
        return tried

    def _output(self, value: Any, names: Mapping[str, str]) -> str:
        if not isinstance(value, Ref):
            raise ProgramError(f"an instruction gives {value!r}, which is no tensor: give tensors alone.")
        return names[value.name]
