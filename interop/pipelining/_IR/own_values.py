"""Stages that write into what they were given.

`nn.ReLU(inplace=True)` at the start of a stage would write into a tensor of the stage before, which keeps it for its
backward and may have sent it to others. Such a stage takes a copy first.
"""

import operator

from torch import fx

from funpipe.interop.pipelining._IR.operators import schema_of, written


def own_before_writing(graph: fx.Graph, stages: dict[fx.Node, int]) -> None:
    """Copies what a stage writes into and has not made, itself or through a view; everybody behind reads the copy.

    Args:
        graph: a captured model, changed in place.
        stages: of its nodes; the copies are added.
    """
    for node in [node for node in graph.nodes if node in stages]:
        for value in {_memory_of(read, stages, stages[node]) for read in written(node)}:
            if value.op != "get_attr" and stages.get(value, 0) != stages[node]:
                _own(graph, stages, value, stages[node])


def _own(graph: fx.Graph, stages: dict[fx.Node, int], value: fx.Node, stage: int) -> None:
    order = {node: index for index, node in enumerate(graph.nodes)}
    first = min((user for user in value.users if stages.get(user) == stage), key=order.__getitem__)
    with graph.inserting_before(first):
        copy = graph.call_method("clone", (value,))
    copy.meta, stages[copy] = dict(value.meta), stage
    value.replace_all_uses_with(copy, lambda user: user is not copy and order[user] >= order[first])


def _memory_of(node: fx.Node, stages: dict[fx.Node, int], stage: int) -> fx.Node:
    """What a value shares its memory with, as far back as on this stage: views, and what is written into."""
    schema = schema_of(node)
    shares = node.target is operator.getitem or (schema and any(result.alias_info for result in schema.returns))
    below = node.args[0] if shares and stages.get(node) == stage else None
    return _memory_of(below, stages, stage) if isinstance(below, fx.Node) else node
