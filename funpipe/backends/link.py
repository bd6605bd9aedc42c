"""The graphs that a step calls, each as one function of its compiled pieces."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from funpipe._typing import TensorType
from funpipe.backends.compiled import Report
from funpipe.backends.constants import lifted
from funpipe.backends.dynamic.build import built_for_sizes
from funpipe.backends.emit import Graph
from funpipe.backends.inductor import Boxed, Built, Source, build
from funpipe.backends.layers import tensors_of
from funpipe.backends.overlap import in_turns, work
from funpipe.backends.pieces import Piece, pieces, returned
from funpipe.tracing.operators import base_of

Others = Callable[[], Iterator[Mapping[str, Graph]]]
"""Gives the graphs of a step at other sizes."""


@dataclass(frozen=True, eq=False)
class Linked:
    """What a step's graphs became.

    Args:
        functions: of each graph, by name.
        sources: the text of the functions that call several pieces, by name.
        pieces: the compiled graphs that each function calls, in order; none where its operators run one by one.
    """

    functions: dict[str, Boxed]
    sources: dict[str, str]
    pieces: dict[str, tuple[Built, ...]]


def link(graphs: Mapping[str, Graph], report: Report, others: Others | None = None) -> Linked:
    """Compiles the pieces of graphs and links them.

    Args:
        graphs: by name.
        report: is told before each piece that is compiled.
        others: gives the same graphs at other sizes, where pieces are compiled for every size; None: for these alone.

    Raises:
        CompileError: torch cannot compile a piece.
    """
    closed = {name: lifted(graph) for name, graph in graphs.items() if not graph.parts}
    parts = {name: _pieces(graph) for name, (graph, _) in closed.items()}
    if others is None:
        taken = _built(parts, report)
    else:
        taken = built_for_sizes(parts, lambda: map(_pieces_of_each, others()), report)
    texts = {
        name: source(name, [closed[name][0].module.graph], group) for name, group in parts.items() if len(group) > 1
    }
    functions = {
        name: _with(constants, _function(name, graph, texts.get(name), taken[name]))
        for name, (graph, constants) in closed.items()
    }
    made = Linked(functions, texts, taken)
    for name, graph in graphs.items():
        if graph.parts:
            first, second = (_Half(n, graphs[n], closed[n][0], parts[n]) for n in graph.parts)
            _add_overlap(made, name, first, second)
    return made


def _pieces_of_each(graphs: Mapping[str, Graph]) -> dict[str, list[Piece]]:
    return {name: _pieces(lifted(graph)[0]) for name, graph in graphs.items() if not graph.parts}


def _built(parts: Mapping[str, Sequence[Piece]], report: Report) -> dict[str, tuple[Built, ...]]:
    sources = [Source(name, part.module, part.types) for name, group in parts.items() for part in group]
    built = iter(build(sources, report))
    return {name: tuple(next(built) for _ in group) for name, group in parts.items()}


@dataclass(frozen=True, eq=False)
class _Half:
    """One of two graphs that run at once: as it is called, closing over nothing, and its pieces."""

    name: str
    called: Graph
    closed: Graph
    pieces: list[Piece]

    @property
    def takes_turns(self) -> bool:
        """Whether it is made of compiled pieces that take the call's own arguments alone."""
        return bool(self.pieces) and self.closed is self.called


def _add_overlap(made: Linked, name: str, first: _Half, second: _Half) -> None:
    """Adds a function of two graphs whose pieces take turns; they run one after the other where one is not compiled."""
    built = {id(p): b for h in (first, second) for p, b in zip(h.pieces, made.pieces[h.name], strict=True)}
    if not (first.takes_turns and second.takes_turns):
        count = len(first.called.types)
        made.functions[name] = _in_order(made.functions[first.name], made.functions[second.name], count)
        made.pieces[name] = (*made.pieces[first.name], *made.pieces[second.name])
        return
    order = in_turns(first.pieces, second.pieces, lambda piece: work(piece.module.graph))
    made.sources[name] = source(name, [h.closed.module.graph for h in (first, second)], order)
    made.pieces[name] = tuple(built[id(piece)] for piece in order)
    calls: dict[str, Any] = {f"piece{i}": piece.call for i, piece in enumerate(made.pieces[name])}
    made.functions[name] = function_of(made.sources[name], name, calls)


def _in_order(first: Boxed, second: Boxed, count: int) -> Boxed:
    """Two functions one after the other; the first takes so many of the inputs."""

    def run(inputs: list[Tensor]) -> Sequence[Tensor]:
        others = inputs[count:]
        del inputs[count:]
        return (*first(inputs), *second(others))

    return run


def _pieces(graph: Graph) -> list[Piece]:
    """None where the operators are to run one by one."""
    return [] if _is_tiny(graph) or keeps_old(graph) else pieces(graph.module, graph.types)


def _is_tiny(graph: Graph) -> bool:
    """Whether a graph computes single numbers only: it takes longer to compile than to run for years."""
    calls = (n for n in graph.module.graph.nodes if n.op == "call_function")
    return all(t.numel() <= 1 for call in calls for t in tensors_of(call))


def keeps_old(graph: Graph) -> bool:
    """Whether a graph leaves in one input what another input was, and overwrites that: compilers copy in any order."""
    copies = graph.module.graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default)
    written = {copy.args[0] for copy in copies}
    return any(_origin(copy.args[1]) in written for copy in copies)


def _origin(node: Any) -> fx.Node:
    """What a value is a view, or a copy, of."""
    node = base_of(node)
    return _origin(node.args[0]) if node.target is torch.ops.aten.clone.default else node


def _function(name: str, graph: Graph, text: str | None, built: Sequence[Built]) -> Boxed:
    if not built:
        return one_by_one(graph.module)
    if text is None:
        return built[0].call
    names: dict[str, Any] = {f"piece{i}": piece.call for i, piece in enumerate(built)}
    return function_of(text, name, names)


def _with(constants: Sequence[Tensor], function: Boxed) -> Boxed:
    """A function that takes the tensors that its graph closes over from here."""
    if not constants:
        return function

    def run(inputs: list[Tensor]) -> Sequence[Tensor]:
        inputs += constants
        return function(inputs)

    return run


def one_by_one(module: fx.GraphModule) -> Boxed:
    """A graph whose operators run one by one."""

    def run(inputs: list[Tensor]) -> Sequence[Tensor]:
        given = tuple(inputs)
        inputs.clear()
        return module(*given)

    return run


def function_of(text: str, name: str, names: dict[str, Any]) -> Callable[..., Any]:
    """Runs the source of a function and gives the function.

    Args:
        text: the source.
        name: of the function.
        names: what the source refers to.
    """
    scope = dict(names)
    exec(compile(text, f"<funpipe {name}>", "exec"), scope)
    return scope[name]


def source(name: str, graphs: Sequence[fx.Graph], parts: Sequence[Piece]) -> str:
    """The source of a function that calls the pieces of a graph, or of several.

    Args:
        name: of the function.
        graphs: the whole graphs, whose inputs the function takes and whose outputs it gives.
        parts: their pieces, in order; `piece0` and so on in the source.
    """
    inputs = [node for graph in graphs for node in graph.find_nodes(op="placeholder")]
    results = [node for graph in graphs for node in returned(graph)]
    variables = {node: f"i{i}" for i, node in enumerate(inputs)}
    last = {node: i for i, part in enumerate(parts) for node in part.inputs} | {base_of(n): len(parts) for n in results}
    lines = [f"{_tuple(variables[n] for n in inputs)} = inputs", "inputs.clear()"]
    lines += _delete(variables[n] for n in inputs if n not in last)
    for i, part in enumerate(parts):
        lines.append(f"arguments = [{', '.join(variables[n] for n in part.inputs)}]")
        lines += _delete(variables[n] for n in part.inputs if last[n] == i)
        variables |= {node: f"t{len(variables) + k}" for k, node in enumerate(part.outputs)}
        made = f"{_tuple(variables[n] for n in part.outputs)} = " if part.outputs else ""
        lines.append(f"{made}piece{i}(arguments)")
    lines.append(f"return ({_tuple(_result(n, variables) for n in results)})")
    return "\n    ".join([f"def {name}(inputs):", *lines]) + "\n"


def _tuple(names: Any) -> str:
    return "".join(f"{name}, " for name in names).rstrip()


def _delete(names: Any) -> list[str]:
    gone = ", ".join(names)
    return [f"del {gone}"] if gone else []


def _result(node: fx.Node, variables: dict[fx.Node, str]) -> str:
    """What is returned: a view is made of what the piece gave."""
    base = base_of(node)
    if node in variables:
        return variables[node]
    value = node.meta["val"]
    kind = TensorType.of(value)
    return f"{variables[base]}.as_strided({list(kind.shape)}, {list(kind.stride)}, {value.storage_offset()})"
