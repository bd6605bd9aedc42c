"""The new state in the memory of the old one."""

from collections.abc import Callable, Mapping
from functools import partial

import torch

from funpipe.graphs import Graph, Node, Ref
from funpipe.graphs.dead import eliminate_dead
from funpipe.graphs.node import map_refs
from funpipe.passes.base import Pass
from funpipe.passes.names import Names
from funpipe.passes.optimizer.in_place import (
    ORIGIN,
    Overwritten,
    donated_leaves,
    overwriting,
    overwriting_call,
    overwriting_node,
)
from funpipe.passes.optimizer.list_calls import ListCall, is_list_call, read_lists, takers, write_lists
from funpipe.passes.optimizer.memory import Memory

_COPY = torch.ops.aten.copy_.default

NEVER = ("batch", "const", "axis")
"""Inputs that are not the graph's to overwrite."""


CARRIED = "carry."
"""In front of the name of a leaf that a rotated step carries instead of giving it back."""


def donate(inputs: str | Callable[[str], bool] = "state") -> Pass:
    """Overwrites the state: outputs of a leaf's name lie in the memory of that input afterwards. Bits do not change.

    Updates over lists become operators that overwrite (`_fused_adam_`, `_foreach_add_`, `update_`), so does an operator
    whose first argument is the old leaf (`add_`, `mul_`); any other new value is copied to the old leaf's memory behind
    the last reader of that. A leaf stays as it is where that would show: it, a view of it or its new value is returned
    under another name, too; it or its new value is on its way, started and not waited for; it keeps its value.

    Whoever runs the graph gives the inputs away. Leaves that share memory with each other must not be among them.

    Args:
        inputs: which inputs are given away: the first part of their names, which may follow `carry.`, or a function
            from a name. Batches and constants never are.

    Returns:
        A pass over graphs, the last one.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace_step(lambda w, x: (w - 0.1 * x, {}), torch.ones(2), torch.ones(2))
        >>> [str(node.target) for node in donate()(traced).graph.nodes]
        ['aten.mul.Tensor', 'aten.sub_.Tensor']
    """
    return Pass("donate", partial(_donated, inputs), last=True)


def _donated(inputs: str | Callable[[str], bool], graph: Graph) -> Graph:
    graph = eliminate_dead(graph)
    memory = Memory(graph)
    chosen = [name for name in graph.inputs if _is_chosen(inputs, name)]
    heirs = {new: name for name in chosen if (new := memory.successor(name, _next(graph, name))) is not None}
    graph, done = _overwritten_lists(graph, memory, heirs)
    rest = {new: old for new, old in heirs.items() if new not in done}
    return _overwritten_nodes(graph, Memory(graph), rest)


def _is_chosen(inputs: str | Callable[[str], bool], name: str) -> bool:
    if name.partition(".")[0] in NEVER:
        return False
    return inputs(name) if callable(inputs) else name.removeprefix(CARRIED).partition(".")[0] == inputs


def _next(graph: Graph, name: str) -> str:
    """The output that an input becomes: of its name, or of the leaf's where a flush gives it back."""
    leaf = name.removeprefix(CARRIED)
    return name if name in graph.outputs or leaf in graph.inputs else leaf


def _overwritten_lists(graph: Graph, memory: Memory, heirs: Mapping[str, str]) -> tuple[Graph, Mapping[str, str]]:
    """The graph with calls over lists that overwrite, and the input in whose memory each of their results is now."""
    calls = [read_lists(graph, n) for n in graph.nodes if is_list_call(n) and overwriting(n.target) is not None]
    found = {call.node.name: (call, donated_leaves(call, memory, heirs)) for call in calls}
    plan = {name: (call, leaves) for name, (call, leaves) in found.items() if leaves.indices}
    gone = {name for call, _ in plan.values() for name in takers(graph, call)}
    names, nodes = Names(graph), []
    for name in gone:
        names.release(name)
    for node in graph.nodes:
        if node.name in plan:
            nodes += _parted(*plan[node.name], names)
        elif node.name not in gone:
            nodes.append(node)
    now = {new: old for _, leaves in plan.values() for new, old in leaves.names.items()}
    outputs = {n: map_refs(lambda r: Ref(now.get(r.name, r.name)), v) for n, v in graph.outputs.items()}
    return graph.replace(nodes=tuple(node.renamed(now) for node in nodes), outputs=outputs), now


def _parted(call: ListCall, found: Overwritten, names: Names) -> list[Node]:
    """A call that overwrites the leaves that it may, and one of the others, if there are any."""
    rest = call.select([i for i in range(call.count) if i not in found.indices])
    names.taken.update(rest.names)
    made = overwriting_call(call.select(found.indices), names)
    return [*made, *(write_lists(rest, names, ORIGIN) if rest.count else ())]


def _overwritten_nodes(graph: Graph, memory: Memory, heirs: Mapping[str, str]) -> Graph:
    """The graph with operators that overwrite in place of those that make the last values, or with copies."""
    changed: dict[str, Node] = {}
    copies: dict[int, list[Node]] = {}
    outputs, names = dict(graph.outputs), Names(graph)
    for new, old in heirs.items():
        made = overwriting_node(graph.node(new), graph, memory, old)
        if made is not None:
            changed[new] = made
            continue
        places = [graph.positions[node.name] for node in memory.readers(old)]
        copy = Node(names.fresh(f"{new}_kept"), _COPY, (Ref(old), Ref(new)), type=graph.inputs[old], origin=ORIGIN)
        copies.setdefault(max([graph.positions[new], *places]), []).append(copy)
        outputs[_next(graph, old)] = Ref(copy.name)
    nodes = [n for i, node in enumerate(graph.nodes) for n in (changed.get(node.name, node), *copies.get(i, ()))]
    return graph.replace(nodes=tuple(nodes), outputs=outputs)
