"""The bytes that a region makes while it runs."""

from collections.abc import Iterable

from torch import fx

from funpipe.stages.costs import types_of
from funpipe.stages.sources import Sources, owner_of
from funpipe.stages.stage import Region


def working_bytes(region: Region) -> int:
    """The most bytes that the operations of a region hold at once, beside its inputs.

    Each operation makes its result before what it read last is freed, in the order of the graph, and no two are fused:
    a compiler needs less. Views take nothing.

    Args:
        region: of a stage.

    Returns:
        The bytes, those of the outputs included.

    Example:
        >>> import torch, funpipe as fp
        >>> from funpipe.planning.working import working_bytes
        >>> traced = fp.trace(lambda p, x: (x @ p).tanh().sum(), torch.ones(3, 2), torch.ones(4, 3))
        >>> (stage,) = fp.stages.partition(traced, ())
        >>> working_bytes(stage.F)
        64
    """
    graph = region.module.graph
    sources = Sources(graph)
    nodes = [n for n in graph.nodes if n.op == "call_function"]
    last = _last_reads(graph, nodes, sources)
    held = most = 0
    ending: dict[int, int] = {}
    for i, node in enumerate(nodes):
        if owner_of(node) is node and not sources.floats(node):
            size = sum(t.nbytes for t in types_of(node))
            held += size
            ending[last.get(node, i)] = ending.get(last.get(node, i), 0) + size
        most = max(most, held)
        held -= ending.pop(i, 0)
    return most


def _last_reads(graph: fx.Graph, nodes: list[fx.Node], sources: Sources) -> dict[fx.Node, int]:
    """The position of the last operation that reads each one's result; what is returned is never freed."""
    last: dict[fx.Node, int] = {}
    for i, node in enumerate(nodes):
        last |= dict.fromkeys(_owners(sources.anchors(node.all_input_nodes)), i)
    returned = graph.find_nodes(op="output")[0].all_input_nodes
    return last | dict.fromkeys(_owners(sources.anchors(returned)), len(nodes))


def _owners(nodes: Iterable[fx.Node]) -> Iterable[fx.Node]:
    return map(owner_of, nodes)
