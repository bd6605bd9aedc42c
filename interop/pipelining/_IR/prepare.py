"""A captured model made ready to be cut: training flags that can change, regions as modules, no checks."""

from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from funpipe.interop.pipelining._IR.attributes import (
    Attributes,
    apart_from_names,
    attributes_of,
    use_nearest_names,
)
from funpipe.interop.pipelining._IR.batch_counts import count_batches
from funpipe.interop.pipelining._IR.calling import Calling
from funpipe.interop.pipelining._IR.cut import stage_of_nodes, without_checks
from funpipe.interop.pipelining._IR.graphs import before_calls, copied
from funpipe.interop.pipelining._IR.marks import is_mark
from funpipe.interop.pipelining._IR.own_values import own_before_writing
from funpipe.interop.pipelining._IR.reads import read_again
from funpipe.interop.pipelining._IR.regions import rewrite_regions
from funpipe.interop.pipelining._IR.sizes import read_sizes_again
from funpipe.interop.pipelining._IR.train_flags import follow_modules


@dataclass(frozen=True, eq=False)
class Prepared:
    """A captured model whose nodes have their stages.

    Args:
        graph: its nodes, without marks.
        stages: the stage of each node that computes.
        attributes: its tensors and the modules of its regions.
        calling: its arguments.
        structure: of what it returns; None: one tensor.
    """

    graph: fx.Graph
    stages: dict[fx.Node, int]
    attributes: Attributes
    calling: Calling
    structure: Any

    @property
    def results(self) -> fx.Node:
        """The node whose arguments are the leaves of what the model returns."""
        return next(node for node in self.graph.nodes if node.op == "output")


def prepare(mod: nn.Module, captured: fx.GraphModule, calling: Calling, structure: Any) -> Prepared:
    """Makes a capture ready to be cut; neither the model nor the capture changes.

    Args:
        mod: the model.
        captured: its graph with marks.
        calling: its arguments.
        structure: of what it returns, as its export says.

    Raises:
        PipeValueError: a mark is where no stage can end.
    """
    graph, attributes = copied(captured.graph), attributes_of(mod, captured)
    without_checks(graph)
    read_again(graph)
    attributes = replace(attributes, constants=_following(graph, mod, attributes))
    stages = stage_of_nodes(graph)
    for node in [node for node in graph.nodes if is_mark(node)]:
        graph.erase_node(node)
    own_before_writing(graph, stages)
    read_sizes_again(graph, stages)
    use_nearest_names(graph, attributes)
    alone = object()
    single = structure.num_leaves == 1 and structure.unflatten([alone]) is alone
    return Prepared(graph, stages, attributes, calling, None if single else structure)


def _following(graph: fx.Graph, mod: nn.Module, attributes: Attributes) -> dict[str, object]:
    """Makes the operators follow `train()` and `eval()`, in place; returns the constants, regions as modules."""
    modes = {path: module.training for path, module in mod.named_modules(remove_duplicate=False)}
    bodies = {name: value for name, value in attributes.constants.items() if isinstance(value, nn.Module)}
    flags: dict[str, fx.Node] = {}

    def flag(path: str) -> fx.Node:
        if path not in flags:
            with before_calls(graph):
                flags[path] = graph.get_attr(f"{path}.training".lstrip("."))
        return flags[path]

    rewrite_regions(graph, bodies, modes, flag)
    follow_modules(graph, modes, flag)
    count_batches(graph, attributes.buffers, flags)
    return apart_from_names(graph, {**attributes.constants, **bodies})
