"""Whether a model is training, as a value of its graph.

A capture writes into every dropout and batch norm whether its module was training. Here such a node reads the flag of
its module while the stage runs, so `train()` and `eval()` on a stage, or on one of its submodules, do what they do on
the model. A flag that differed from its module's (`F.dropout(x, training=True)` in a module that was evaluating) was
the model's own decision, and stays.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from funpipe.interop.pipelining._IR.operators import (
    argument,
    module_path,
    module_type,
    parameter_index,
    set_argument,
)


def follow_modules(graph: fx.Graph, modes: Mapping[str, bool], flag: Callable[[str], fx.Node]) -> None:
    """Makes the operators of a graph that differ between training and evaluating follow their modules, in place.

    Args:
        graph: the graph.
        modes: for each module by name whether it was training when it was captured.
        flag: the node that says whether a module is training.
    """
    for node in list(graph.nodes):
        if node.op == "call_function":
            _follow(node, modes.get(module_path(node), False), flag)


def _follow(node: fx.Node, training: bool, flag: Callable[[str], fx.Node]) -> None:
    index, value = _changed(node, training)
    if index is None:
        return
    set_argument(node, index, _new_value(node, value, flag(module_path(node))))


def _changed(node: fx.Node, training: bool) -> tuple[int | None, Any]:
    """The position of the argument that follows the module, and what the capture has there; None: no argument does."""
    index = parameter_index(node, "train", "training", "use_input_stats")
    if index is not None:
        return (index if argument(node, index) is training and _has_statistics(node) else None), training
    index = parameter_index(node, "dropout_p")
    if index is None and _counts_batches(node):
        index = 1
    value = argument(node, index) if index is not None else 0
    return (index if training and value else None), value


def _new_value(node: fx.Node, value: Any, flag: fx.Node) -> Any:
    """A flag itself; a probability or a count times the flag."""
    if isinstance(value, bool):
        return flag
    with node.graph.inserting_before(node):
        return node.graph.call_function(times, (value, flag))


def times(value: float, flag: bool) -> float:
    """A probability or a count that holds only while a module is training.

    Args:
        value: it.
        flag: whether the module is training.

    Example:
        >>> times(0.1, True), times(1, False)
        (0.1, 0)
    """
    return value if flag else type(value)(0)


def _has_statistics(node: fx.Node) -> bool:
    """A norm without running statistics takes those of the batch in either mode; other operators have none to miss."""
    index = parameter_index(node, "running_mean")
    return index is None or isinstance(argument(node, index), fx.Node)


def _counts_batches(node: fx.Node) -> bool:
    """Whether this is a batch norm's count of batches; counting stops with the module's training."""
    return str(node.target) == "aten.add_.Tensor" and "BatchNorm" in module_type(node) and isinstance(node.args[1], int)
