"""A graph as the source of one Python function: calls of compiled segments, and direct calls between them.

    def step(communicator, inputs):
        (w, x,) = inputs
        inputs.clear()
        arguments = [w, x]
        del x
        (mm,) = part0(arguments)
        all_reduce = communicator.all_reduce(mm, 'sum', 'dp')
        wait_tensor = communicator.wait(all_reduce)
        ...

A value is deleted behind its last reader, and a segment owns what nothing reads behind it. What a collective was given
stays until its wait. Views are made where they are read.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from funpipe.backends.emit import Graph as Part
from funpipe.backends.graph_nodes import Nodes, argument_text, called, nodes_of, view_text
from funpipe.backends.pieces import Piece, owners, piece_of, read_elsewhere
from funpipe.backends.segments import Segments, segments
from funpipe.functional.communication import MESSAGES, OPERATORS, STARTS, WAIT
from funpipe.graphs.effects import writes
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Ref
from funpipe.stages.costs import Roofline
from funpipe.tracing.operators import base_of

_TAKEN = {OPERATORS.all_gather.default: 2, OPERATORS.reduce_scatter.default: 3, OPERATORS.wait_recv.default: 1}
"""How many of an operator's arguments a communicator takes, where they are not all."""

_TAKEN_NAMES = re.compile(r"communicator|inputs|arguments|ops|part\d+")
"""What the source calls its own names."""


@dataclass(frozen=True, eq=False)
class Written:
    """A step as source, and what it refers to.

    Args:
        source: the whole function.
        parts: the graphs that it calls, by name.
        ops: the operators that it calls, by name, and arguments that have no literal.
        variables: of the graph's nodes, by name.
    """

    source: str
    parts: dict[str, Part]
    ops: dict[str, Any]
    variables: dict[str, str]


def write(graph: Graph) -> Written:
    """Writes the function of a graph.

    Args:
        graph: the graph, its updates expanded.

    Returns:
        The source of `step(communicator, inputs)`, which empties the list of its inputs and gives a tuple of its
        outputs, both in the graph's order.
    """
    return _Writer(nodes_of(graph)).write()


@dataclass(frozen=True, eq=False)
class _Call:
    """A segment or a station: the values that it reads and makes, those that own their memory."""

    reads: tuple[fx.Node, ...]
    makes: tuple[fx.Node, ...]
    piece: Piece | None = None
    station: fx.Node | None = None


@dataclass
class _Writer:
    nodes: Nodes
    parts: dict[str, Part] = field(default_factory=dict)
    operators: dict[str, Any] = field(default_factory=dict)
    variables: dict[fx.Node, str] = field(default_factory=dict)

    def write(self) -> Written:
        nodes = self.nodes
        costs = {name: Roofline().node(call) for name, call in nodes.calls.items()}
        calls = list(_calls(nodes, segments(nodes.graph, costs)))
        last = _last_reads(nodes, calls)
        lines = self._opening(last)
        for i, call in enumerate(calls):
            unread = [node for node in call.makes if node not in last]
            lines += self._lines(call, [node for node, end in last.items() if end == i] + unread)
        lines.append(f"return ({_tuple(self._results())})")
        source = "\n    ".join(["def step(communicator, inputs):", *lines]) + "\n"
        named = {name: self.variables[call] for name, call in nodes.calls.items() if call in self.variables}
        return Written(source, self.parts, self.operators, named)

    def _opening(self, last: dict[fx.Node, int]) -> list[str]:
        inputs = self.nodes.inputs
        if not inputs:
            return []
        taken = f"({_tuple(self._new(node) for node in inputs)}) = inputs"
        return [taken, "inputs.clear()", *self._delete(node for node in inputs if node not in last)]

    def _lines(self, call: _Call, over: Sequence[fx.Node]) -> list[str]:
        if call.piece is not None:
            return self._segment(call, call.piece, over)
        assert call.station is not None
        return [*self._station(call.station, call.makes), *self._delete(over)]

    def _segment(self, call: _Call, piece: Piece, over: Sequence[fx.Node]) -> list[str]:
        """A call that owns the arguments which nothing reads after it."""
        name = f"part{len(self.parts)}"
        self.parts[name] = Part(piece.module, piece.types)
        given = [f"arguments = [{', '.join(map(self._text, piece.inputs))}]"]
        given += self._delete(n for n in over if n not in call.makes)
        made = f"({_tuple(map(self._new, piece.outputs))}) = " if piece.outputs else ""
        return [*given, f"{made}{name}(arguments)", *self._delete(n for n in call.makes if n in over)]

    def _station(self, node: fx.Node, makes: Sequence[fx.Node]) -> list[str]:
        """A direct call, then the parts of what it gives."""
        text = self._communication(node) if _communicates(node) else called(node, self._text, self.operators)
        gives = node.meta["val"] is not None or node.users
        lines = [f"{self._new(node)} = {text}" if gives else text]
        for part in makes[1:]:
            source = self.variables[part.args[0]]  # type: ignore[index]
            lines.append(f"{self._new(part)} = {source}[{part.args[1]}]")
        return lines

    def _communication(self, node: fx.Node) -> str:
        name = str(node.target).split(".")[1]
        method = "wait" if node.target is WAIT else name
        taken = node.args[: _TAKEN.get(node.target, len(node.args))]
        return f"communicator.{method}({', '.join(argument_text(a, self._text, self.operators) for a in taken)})"

    def _results(self) -> Iterator[str]:
        """The outputs. Where inputs are overwritten, no output shares memory with another, nor with the batch."""
        overwrites = any(writes(node) for node in self.nodes.graph.nodes)
        taken: set[fx.Node] = set()
        for value in self.nodes.graph.outputs.values():
            if not isinstance(value, Ref):
                yield argument_text(value, self._text, self.operators)
                continue
            node = self.nodes.values[value.name]
            base = base_of(node)
            shared = overwrites and (base in taken or _is_given(base))
            taken.add(base)
            yield f"{self._text(node)}.clone()" if shared else self._text(node)

    def _text(self, node: fx.Node) -> str:
        return view_text(node, self.variables, self.operators)

    def _new(self, node: fx.Node) -> str:
        """A variable for a value: its name, unless the source calls something else so."""
        self.variables[node] = f"value_of_{node.name}" if _TAKEN_NAMES.fullmatch(node.name) else node.name
        return self.variables[node]

    def _delete(self, nodes: Iterable[fx.Node]) -> list[str]:
        gone = ", ".join(self.variables[node] for node in nodes if node in self.variables)
        return [f"del {gone}"] if gone else []


def _calls(nodes: Nodes, taken: Segments) -> Iterator[_Call]:
    """What a step calls, in order."""
    groups = [taken.numbers]
    for part, station in zip(taken.parts, taken.stations, strict=False):
        groups += [part, (station,)]
    groups.append(taken.parts[-1])
    owner = owners(nodes.made, [[nodes.calls[node.name] for node in group] for group in groups])
    order = {node: i for i, node in enumerate(nodes.made.nodes)}
    read = read_elsewhere(nodes.made, owner)
    for i, group in enumerate(groups):
        if i and i % 2 == 0:
            yield _station(nodes.calls[group[0].name], owner, order)
        elif group:
            piece = piece_of(i, owner, order, read)
            if piece.outputs or any(writes(node) for node in group):
                yield _Call(piece.inputs, piece.outputs, piece=piece)


def _station(node: fx.Node, owner: dict[fx.Node, int], order: dict[fx.Node, int]) -> _Call:
    """A direct call; the parts of several results are made by it."""
    mine = [n for n, i in owner.items() if i == owner[node] and n is not node]
    reads = tuple(dict.fromkeys(base_of(n) for n in node.all_input_nodes))
    return _Call(reads, (node, *sorted(mine, key=order.__getitem__)), station=node)


def _last_reads(nodes: Nodes, calls: Sequence[_Call]) -> dict[fx.Node, int]:
    """The last call that needs each value; what a collective was given is needed until it has been waited for."""
    last = {node: i for i, call in enumerate(calls) for node in call.reads}
    returned = (nodes.values[v.name] for v in nodes.graph.outputs.values() if isinstance(v, Ref))
    last |= {base_of(node): len(calls) for node in returned}
    for call in calls:
        if call.station is not None and call.station.target in STARTS:
            waited = max((last.get(n, -1) for n in call.makes), default=-1)
            last |= {node: max(last[node], waited) for node in call.reads}
    return last


def _communicates(node: fx.Node) -> bool:
    return node.target in STARTS or node.target in MESSAGES or node.target is WAIT


def _is_given(node: fx.Node) -> bool:
    """Whether a value is an input that stays the caller's: one of the batch, or a constant."""
    return node.op == "placeholder" and not node.meta["leaf"].startswith(("state.", "carry."))


def _tuple(names: Iterable[str]) -> str:
    return "".join(f"{name}, " for name in names).rstrip()
