"""Lets a step's last updates write where the state lies, instead of into new memory that is copied there."""

import operator
from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from funpipe.graphs import from_fx, to_fx
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from funpipe.passes import donate


def donated(step: Any, inputs: Sequence[str], outputs: Sequence[str], state: Sequence[Tensor]) -> Any:
    """The same step, with updates in place where nothing reads the old values afterwards.

    Args:
        step: what a transformation gave.
        inputs, outputs: the names of its inputs and outputs.
        state: the tensors that it is given in every call; where some share memory with each other, none is written.

    Returns:
        A module that changes some of its inputs `state.*`, and returns these inputs in the places of their new values;
        the step that was given where it is no graph of operators, work is moved, or memory is shared.
    """
    module = _whole(step)
    memory = [x.untyped_storage().data_ptr() for x in state if x.numel()]
    if not isinstance(module, fx.GraphModule) or not _is_of_operators(module.graph) or len(set(memory)) < len(memory):
        return step
    return to_fx(donate().fn(from_fx(module.graph, inputs, outputs)))


def _whole(step: Any) -> Any:
    """The graph that runs at every step, where it is one."""
    if isinstance(step, IterGraphModule) and step.graph.frozen and not step.graph.moves:
        return step.main_gm
    return step


def _is_of_operators(graph: fx.Graph) -> bool:
    """Whether each node says what it does to memory: ATen's do, and those on Python's numbers have none."""
    calls = (node for node in graph.nodes if node.op not in ("placeholder", "output"))
    return all(node.op == "call_function" and "val" in node.meta and _is_operator(node) for node in calls)


def _is_operator(node: fx.Node) -> bool:
    target: Any = node.target
    return hasattr(target, "overloadpacket") or getattr(operator, target.__name__, None) is target
