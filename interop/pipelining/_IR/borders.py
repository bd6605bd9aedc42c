"""What each stage takes from the others and from the caller, and what it gives."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import fx

from funpipe.interop.pipelining._IR.calling import Calling
from funpipe.interop.pipelining._IR.cut import num_stages
from funpipe.interop.pipelining.wiring import Argument


@dataclass(frozen=True)
class Border:
    """What goes in and out of a stage.

    Args:
        nodes: what it computes, in order.
        arguments: the arguments of the model that it reads, by their position.
        values: what it reads that other stages make, by stage and then in their order.
        outputs: what later stages read of it, in order; of the last stage empty.
        wiring: where each positional input comes from: first the values, then the arguments; on the first stage there
            are no values.
        last: whether it is the last stage, which returns what the model returns.
    """

    nodes: tuple[fx.Node, ...]
    arguments: tuple[int, ...]
    values: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    wiring: tuple[Argument, ...]
    last: bool


def borders(graph: fx.Graph, stages: dict[fx.Node, int], calling: Calling) -> tuple[Border, ...]:
    """The border of each stage.

    Args:
        graph: a captured model without marks.
        stages: of its nodes.
        calling: its arguments.
    """
    count = num_stages(stages)
    nodes = [tuple(node for node in graph.nodes if stages.get(node) == stage) for stage in range(count)]
    reads = [_reads(here) for here in nodes]
    reads[-1] |= _reads(node for node in graph.nodes if node.op == "output")
    outputs = [tuple(n for n in nodes[i] if any(n in later for later in reads[i + 1 :])) for i in range(count)]
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    positions = {node: leaf.position for node, leaf in zip(placeholders, calling.leaves, strict=True)}
    made = []
    for stage in range(count):
        values = tuple(node for before in range(stage) for node in outputs[before] if node in reads[stage])
        arguments = tuple(sorted({positions[node] for node in reads[stage] if node in positions}))
        wiring = [Argument(stages[node], outputs[stages[node]].index(node)) for node in values]
        wiring += [calling.argument(position) for position in arguments]
        made.append(Border(nodes[stage], arguments, values, outputs[stage], tuple(wiring), stage == count - 1))
    return tuple(made)


def _reads(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    return {read for node in nodes for read in node.all_input_nodes}
