"""Large all-reduces in place of small ones, in the buckets that the original makes: users know them by number."""

from dataclasses import replace
from functools import partial

from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph
from funpipe.graphs.communication import is_start
from funpipe.graphs.dead import eliminate_dead
from funpipe.passes.base import Pass
from funpipe.passes.communication.bucket import with_groups
from funpipe.passes.communication.groups import Limits, groups_of
from funpipe.passes.communication.moves import kept_order, soon

_FIRST_BYTES = 1 << 20
"""The limit of the first bucket: it is on its way early."""

_KINDS = frozenset({OPERATORS.all_reduce.default})


def fusion(cap_bytes: int) -> Pass:
    """The pass behind `comm_fusion_with_concat`.

    It differs from `passes.bucket` in what is in which bucket: a bucket ends with the gradient that crosses its limit,
    gradients come in the order in which the graph has them ready, and no other node moves.

    Args:
        cap_bytes: the limit of every bucket but the first, which closes at 1 MiB.
    """
    limits = Limits(_FIRST_BYTES, cap_bytes, "after")
    return Pass("comm_fusion_with_concat", partial(_fused, limits=limits), reorders=True)


def _fused(graph: Graph, limits: Limits) -> Graph:
    live = eliminate_dead(graph)
    before = kept_order(live, reorders=True)
    ready = soon(live, is_start, before)
    return _with_new_starts(with_groups(ready, groups_of(ready, before, _KINDS, limits), "concat"))


def _with_new_starts(graph: Graph) -> Graph:
    """Gives starts names that no node has had, so that fx names all of them after their operator, in order."""
    names = {n.name: graph.fresh(f"start_{n.name}") for n in graph.nodes if is_start(n)}
    nodes = (replace(node, name=names.get(node.name, node.name)).renamed(names) for node in graph.nodes)
    return graph.replace(nodes=tuple(nodes))
