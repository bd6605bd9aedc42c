"""A collective with its waits and what takes their results apart."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from funpipe.functional.communication import WAIT
from funpipe.interop.spmd.errors import SpmdRuntimeError
from funpipe.interop.spmd.graph_utils import get_node_tensor_metadata
from funpipe.interop.spmd.rewriting.nested import nodes_in

_WAIT_NAMES = ("wait_comm", "wait_tensor")
_PART_NAMES = ("split", "reshape", "view", "getitem", "detach", "alias")


@dataclass(frozen=True)
class CommBlock:
    """A collective.

    Args:
        shape: of what it takes; None if that is not known.
        node_list: the collective, its waits, and the nodes that take their results apart.
        inputs: the nodes that it reads.
        wait_nodes: its waits.
        comm_node: the collective.
        outputs: the last nodes of the block: others read them.
    """

    shape: torch.Size | None
    node_list: list[fx.Node]
    inputs: list[fx.Node]
    wait_nodes: list[fx.Node]
    comm_node: fx.Node
    outputs: set[fx.Node]

    def __hash__(self) -> int:
        return hash(self.comm_node)


def get_comm_block(comm_node: fx.Node) -> CommBlock:
    """The block of a collective.

    Args:
        comm_node: the collective.

    Raises:
        SpmdRuntimeError: nothing waits for it.
    """
    pending = _parts([comm_node])
    waits = list(dict.fromkeys(user for node in pending for user in _users(node) if _is_wait(user)))
    if not waits:
        raise SpmdRuntimeError(
            f"The wait nodes are too far away from the comm node {comm_node}. Have wait_tensor read what it gives."
        )
    inputs = list(nodes_in((comm_node.args, dict(comm_node.kwargs))))
    known = get_node_tensor_metadata(inputs[0], is_required=False) if inputs else None
    parts = _parts(waits)
    return CommBlock(
        shape=None if known is None else torch.Size(map(int, known.shape)),
        node_list=[*pending, *parts],
        inputs=inputs,
        wait_nodes=waits,
        comm_node=comm_node,
        outputs={node for node in parts if not all(_is_part(user) for user in _users(node))},
    )


def get_all_comm_blocks(gm: Any, comm_ops: tuple[str, ...] | str) -> list[CommBlock]:
    """The blocks of all collectives of some names.

    Args:
        gm: the graph module.
        comm_ops: how the names of the collectives begin.
    """
    names = comm_ops if isinstance(comm_ops, str) else tuple(comm_ops)
    named = [n for n in gm.graph.nodes if n.op == "call_function" and n.name.startswith(names)]
    return [get_comm_block(node) for node in named]


def _parts(nodes: list[fx.Node]) -> list[fx.Node]:
    """Nodes and those that take what they give apart."""
    found = list(nodes)
    for node in found:  # grows on the way
        found += [user for user in _users(node) if _is_part(user) and user not in found]
    return found


def _users(node: fx.Node) -> list[fx.Node]:
    return [user for user in node.users if isinstance(user, fx.Node)]


def _is_wait(node: fx.Node) -> bool:
    return node.target is WAIT or node.name.startswith(_WAIT_NAMES)


def _is_part(node: fx.Node) -> bool:
    packet = getattr(node.target, "overloadpacket", node.target)
    return getattr(packet, "__name__", node.name).startswith(_PART_NAMES)
