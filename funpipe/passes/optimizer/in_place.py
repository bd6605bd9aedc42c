"""Which operator overwrites its arguments with what another one gives as new values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from funpipe.graphs import Node, Ref
from funpipe.graphs.effects import is_view
from funpipe.graphs.graph import Graph
from funpipe.optim.update_op import UPDATE, UPDATE_IN_PLACE
from funpipe.passes.names import Names
from funpipe.passes.optimizer.list_calls import ListCall, is_list_call, write_lists
from funpipe.passes.optimizer.memory import Memory

ORIGIN = "donate"


def overwriting(target: Any) -> Any:
    """The operator that overwrites what another one reads, such as `add_` for `add`; None where there is none."""
    if target is UPDATE:
        return UPDATE_IN_PLACE
    packet = getattr(target, "overloadpacket", None)
    if packet is None or target._schema.is_mutable or not target._schema.name.startswith("aten::"):
        return None
    other = getattr(getattr(torch.ops.aten, f"{packet.__name__}_", None), target._overloadname, None)
    names = [argument.name for argument in target._schema.arguments]
    return other if other is not None and [a.name for a in other._schema.arguments] == names else None


@dataclass(frozen=True)
class Overwritten:
    """Leaves of a call over lists that may be overwritten.

    Args:
        indices: of the leaves.
        names: for the new value of each of their rows the input whose memory it takes.
    """

    indices: tuple[int, ...]
    names: Mapping[str, str]


def donated_leaves(call: ListCall, memory: Memory, heirs: Mapping[str, str]) -> Overwritten:
    """The leaves of a call of which every tensor that an overwriting operator writes may be written.

    Args:
        call: the call.
        memory: of its graph.
        heirs: for each value that may lie in an input's memory that input.
    """
    indices, names = [], {}
    rows = _written_rows(call)
    for i in range(call.count) if rows is not None else ():
        found = [_pair(call, memory, heirs, old[i], new[i]) for old, new in rows or ()]
        if None not in found:
            indices.append(i)
            names |= dict(pair for pair in found if pair)
    return Overwritten(tuple(indices), names)


def _written_rows(call: ListCall) -> list[tuple[tuple[Any, ...], tuple[tuple[Node, ...], ...]]] | None:
    """The rows of arguments that are written, each with the row of results that it becomes; None if there is no way."""
    other = overwriting(call.node.target)
    if other is None or not is_list_call(call.node) or call.others.get("grad_scale") is not None:
        return None  # with a scale of the gradients, those are overwritten, too
    written = [a.name for a in other._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    rows, j = [], 0
    for name in written:
        for row in call.lists[name] or ((),):
            if name == "grads" and any(call.results[j]):
                return None
            if name != "grads" and row:
                rows.append((row, call.results[j]))
            j += 1
    return rows


def _pair(
    call: ListCall, memory: Memory, heirs: Mapping[str, str], old: Any, new: tuple[Node, ...]
) -> tuple[str, str] | None:
    """A new value and the input whose memory it takes; None if it may not."""
    if len(new) != 1 or not isinstance(old, Ref) or heirs.get(new[0].name) != old.name:
        return None
    at = memory.graph.positions[call.node.name]
    if memory.is_read_after(old.name, at) or memory.reads_of(call.node, old.name) != 1:
        return None
    return new[0].name, old.name


def overwriting_call(call: ListCall, names: Names) -> list[Node]:
    """The nodes of a call that overwrites all its leaves: one."""
    whole = write_lists(call, names, ORIGIN)[0]
    return [replace(whole, target=overwriting(call.node.target), type=None)]


def overwriting_node(node: Node, graph: Graph, memory: Memory, old: str) -> Node | None:
    """The node as an operator that overwrites its first argument, an input; None if it cannot.

    Args:
        node: makes the new value of the input.
        graph: has it.
        memory: of the graph.
        old: the input.
    """
    other = overwriting(node.target)
    if other is None or is_view(graph, node) or node.type != graph.inputs[old] or not node.args:
        return None
    written = [a.name for a in other._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    first = node.args[0] == Ref(old) and written == [other._schema.arguments[0].name]
    late = memory.is_read_after(old, graph.positions[node.name])
    if not first or late or memory.reads_of(node, old) != 1:
        return None
    return replace(node, target=other, origin=ORIGIN)
