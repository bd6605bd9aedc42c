"""`Graph`: a whole training step of one rank as data: what it takes, its operators in order, what it gives.

Every value has a name, and operators refer to the values that they read by name. Names of inputs and outputs say what
they are: `state.LEAF` comes in and goes out, `batch.LEAF` and `const.NAME` come in, `aux.NAME` goes out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from funpipe._errors import FunpipeTypeError, GraphError
from funpipe._typing import TensorType
from funpipe.graphs.near import near
from funpipe.graphs.node import Node, Type, refs_in


@dataclass(frozen=True, eq=False)
class Graph:
    """A pure function of named tensors, operator by operator.

    Args:
        inputs: the type of each input by name, in order.
        nodes: the operators; each reads inputs and values made before it.
        outputs: for each output its value: a `Ref`, or a constant.
        constants: the tensors behind the inputs named `const.NAME`.
        objects: what text arguments of operators name: optimizers by their text.
        applied: the passes that made it, in order.
        pipelined: whether other ranks of a pipeline run other graphs; replicas of one rank always run the same.
    """

    inputs: Mapping[str, TensorType]
    nodes: tuple[Node, ...]
    outputs: Mapping[str, Any]
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    objects: Mapping[str, Any] = field(default_factory=dict)
    applied: tuple[Any, ...] = ()
    pipelined: bool = False

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Where each node stands."""
        return {node.name: i for i, node in enumerate(self.nodes)}

    @cached_property
    def _readers(self) -> Mapping[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.reads:
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def returned(self) -> frozenset[str]:
        """The names of the values that are outputs."""
        return frozenset(ref.name for ref in refs_in(tuple(self.outputs.values())))

    def node(self, name: str) -> Node:
        """A node by name.

        Raises:
            GraphError: there is none; the text lists near names.
        """
        found = self.by_name.get(name)
        if found is None:
            raise GraphError(f"the graph has no node {name!r}; {near(name, self.by_name)}")
        return found

    def readers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read a value, in order."""
        return self._readers.get(name, ())

    def type_of(self, name: str) -> Type:
        """The type of a value, an input or a node's."""
        return self.inputs[name] if name in self.inputs else self.node(name).type

    def fresh(self, name: str) -> str:
        """A name that no value has: the given one, or with the lowest free number behind it."""
        taken, number = name in self.by_name or name in self.inputs, 0
        tried = name
        while taken:
            number += 1
            tried = f"{name}_{number}"
            taken = tried in self.by_name or tried in self.inputs
        return tried

    def replace(self, **changes: Any) -> "Graph":
        """The graph with some fields replaced."""
        return replace(self, **changes)

    def as_text(self) -> str:
        """Inputs, operators and outputs, one a line; `graphs.parse` reads it back."""
        from funpipe.graphs.text import graph_text

        return graph_text(self)

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        return f"Graph({len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs)"


def require_graph(value: object, what: str) -> None:
    """Raises unless a value is a graph.

    Args:
        value: what was passed for one.
        what: the function that it was passed to.

    Raises:
        FunpipeTypeError: it is not; a traced step holds one.
    """
    if not isinstance(value, Graph):
        raise FunpipeTypeError(
            f"{what} takes a graph, and was given a {type(value).__name__}: pass that of a traced step, step.graph."
        )
