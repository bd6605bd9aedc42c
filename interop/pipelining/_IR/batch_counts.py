"""The count of batches of a batch norm that was captured while it was not training.

Its graph has no node that counts; when its stage trains later, the module would count, so a node is put in.
"""

from collections.abc import Mapping

import torch
from torch import fx

from funpipe.interop.pipelining._IR.operators import argument, module_path, parameter_index
from funpipe.interop.pipelining._IR.train_flags import times


def count_batches(graph: fx.Graph, buffers: Mapping[str, torch.Tensor], flags: Mapping[str, fx.Node]) -> None:
    """Puts in the nodes that count, in place.

    Args:
        graph: a graph whose operators follow their modules.
        buffers: the model's buffers by name.
        flags: the nodes of the modules' training flags by the module's name.
    """
    counted = {node.target for node in graph.nodes if node.op == "get_attr" and node.users}
    for node in list(graph.nodes):
        name = f"{module_path(node)}.num_batches_tracked".lstrip(".")
        if _is_norm(node) and name in buffers and name not in counted and module_path(node) in flags:
            with graph.inserting_before(node):
                one = graph.call_function(times, (1, flags[module_path(node)]))
                count = graph.call_function(torch.ops.aten.add_.Tensor, (graph.get_attr(name), one))
            count.meta = dict(node.meta)


def _is_norm(node: fx.Node) -> bool:
    """Whether this node normalizes a batch, and keeps statistics of what it saw."""
    index = parameter_index(node, "running_mean") if parameter_index(node, "training") is not None else None
    return index is not None and argument(node, index) is not None
