"""Cuts a step in two and puts the halves of neighbouring steps together.

    F      (state, batch) -> (state', aux)         the whole step: head H, then tail T
    first  H
    main   T of the last step, H of this one
    flush  T

H and T are the step's own nodes: nothing is computed otherwise. The step's values are named once; what T reads of H has
the name `carry.NAME` on its way into the next step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from funpipe._typing import TensorType
from funpipe.graphs.check import check
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, Ref, map_refs
from funpipe.passes.rotation.finding import STATE
from funpipe.passes.rotation.graphs import CARRY, RotatedGraphs
from funpipe.passes.rotation.legal import require_legal, without_parts
from funpipe.passes.rotation.place import placed
from funpipe.passes.rotation.selectors import Defer, chosen
from funpipe.passes.rotation.views import with_kept_batch, with_own_views

_FIXED = ("const.", "axis.")
"""Inputs that are the same in every step."""


def rotated(graph: Graph, defer: Defer, before: str | None = None) -> RotatedGraphs:
    """Moves chosen work of a step into the next step.

    Args:
        graph: the step: `state.*` and `batch.*` come in, `state.*` and `aux.*` go out.
        defer: the work: a selector, a predicate of nodes, or names of nodes.
        before: the node in front of which the work runs in the next step; None: each node just before the first that
            reads what it makes.

    Returns:
        The graphs of the first step, of every other one, and of what completes the state.

    Raises:
        RotateError: something that stays reads what is deferred, `before` lies behind a reader, a message would be
            deferred, nothing is chosen, or the graph overwrites values.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> made = make_fx(lambda w, x: (w - 0.5 * x, w * x), tracing_mode="fake")(torch.ones(2), torch.ones(2))
        >>> graph = from_fx(made.graph, ["state.w", "batch.x"], ["state.w", "aux.y"])
        >>> print(rotated(graph, {"sub"}).main.as_text())
        carry.state.w: float32[2]
        carry.mul: float32[2]
        batch.x: float32[2]
        mul: float32[2] = aten.mul.Tensor(%batch.x, 0.5)
        sub: float32[2] = aten.sub.Tensor(%carry.state.w, %carry.mul)
        mul_1: float32[2] = aten.mul.Tensor(%sub, %batch.x)
        return aux.y = %mul_1
        return carry.state.w = %sub
        return carry.mul = %mul
    """
    check(graph)
    tail = without_parts(graph, chosen(graph, defer))
    require_legal(graph, tail)
    graph, tail = with_own_views(graph, tail)
    cut = _Cut(with_kept_batch(graph, tail), tail)
    found = cut.first(), cut.main(before), cut.flush()
    for each in found:
        check(each)
    return RotatedGraphs(*found, cut.carry, tuple(name.removeprefix(STATE) for name in cut.late))


@dataclass(frozen=True, eq=False)
class _Cut:
    """A step and the names of the nodes that are deferred."""

    graph: Graph
    names: frozenset[str]

    @cached_property
    def head(self) -> tuple[Node, ...]:
        return tuple(node for node in self.graph.nodes if node.name not in self.names)

    @cached_property
    def tail(self) -> tuple[Node, ...]:
        """The deferred nodes, reading the carry and the partial state."""
        own = [node for node in self.graph.nodes if node.name in self.names]
        return tuple(node.renamed(self.sources) for node in own)

    @cached_property
    def late(self) -> dict[str, str]:
        """The leaves that the tail makes: `state.LEAF` and the value."""
        state = {name: value for name, value in self.graph.outputs.items() if name.startswith(STATE)}
        return {n: v.name for n, v in state.items() if isinstance(v, Ref) and v.name in self.names}

    @cached_property
    def early(self) -> dict[str, Any]:
        """The outputs that the head makes, the partial state first."""
        return {name: value for name, value in self.graph.outputs.items() if name not in self.late}

    @cached_property
    def sources(self) -> dict[str, str]:
        """For each value that the tail reads and does not make, its name in the next step."""
        read = (name for node in self.graph.nodes if node.name in self.names for name in node.reads)
        outside = [n for n in dict.fromkeys(read) if n not in self.names and not n.startswith(_FIXED)]
        return {name: self._held.get(name, f"{CARRY}{name}") for name in outside}

    @cached_property
    def _held(self) -> dict[str, str]:
        """Values that the partial state holds, with their leaves; of a leaf that stays as it is a copy is carried.

        Such a leaf (a learning rate) may be replaced between two steps, and the tail reads that of its own step.
        """
        state = [(n, v) for n, v in self.early.items() if n.startswith(STATE) and isinstance(v, Ref)]
        return {value.name: name for name, value in reversed(state) if value.name != name}

    @cached_property
    def carry(self) -> dict[str, TensorType]:
        return {name: self.graph.type_of(value) for value, name in self.sources.items() if name.startswith(CARRY)}

    def first(self) -> Graph:
        carried = {name: Ref(value) for value, name in self.sources.items() if name in self.carry}
        return self._graph(self.graph.inputs, self.head, self.early | carried)

    def main(self, before: str | None) -> Graph:
        """In the head, a leaf that the tail makes is what it made; the carry is that of this step."""
        head = tuple(node.renamed(self.late) for node in self.head)
        leaves = {value: name.removeprefix(STATE) for name, value in self.late.items()}
        nodes = placed(head, self.tail, before, leaves)
        outputs = {name: map_refs(self._now, value) for name, value in self.early.items()}
        outputs |= {name: self._now(Ref(value)) for value, name in self.sources.items() if name in self.carry}
        return self._graph(self._partial() | self._rest(self.graph.inputs), nodes, outputs)

    def _now(self, ref: Ref) -> Ref:
        return Ref(self.late.get(ref.name, ref.name))

    def flush(self) -> Graph:
        outputs = {n: Ref(self.late.get(n, n)) for n in self.graph.outputs if n.startswith(STATE)}
        read = {name for node in self.tail for name in node.reads if name.startswith(_FIXED)}
        return self._graph(self._partial() | self._rest(read), self.tail, outputs)

    def _partial(self) -> dict[str, TensorType]:
        """The inputs that a step leaves for the next: the partial state and the carry."""
        state = {n: t for n, t in self.graph.inputs.items() if n.startswith(STATE) and n not in self.late}
        return state | self.carry

    def _rest(self, names: Iterable[str]) -> dict[str, TensorType]:
        """The inputs among these that are no state."""
        wanted = set(names)
        return {n: t for n, t in self.graph.inputs.items() if n in wanted and not n.startswith(STATE)}

    def _graph(self, inputs: Mapping[str, TensorType], nodes: tuple[Node, ...], outputs: Mapping[str, Any]) -> Graph:
        constants = {name: value for name, value in self.graph.constants.items() if name in inputs}
        return self.graph.replace(inputs=dict(inputs), nodes=nodes, outputs=dict(outputs), constants=constants)
