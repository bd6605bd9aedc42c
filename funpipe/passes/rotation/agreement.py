"""What the ranks of a pipelined step, whose graphs differ, must have in common when they are rotated."""

from collections.abc import Sequence

from funpipe._errors import RotateError
from funpipe.graphs.communication import axis_of, is_start
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, operator_name, refs_in
from funpipe.graphs.text import type_text
from funpipe.passes.rotation.graphs import RotatedGraphs

_PARTS = ("first", "main", "flush")


def require_agreement(ranks: Sequence[RotatedGraphs]) -> None:
    """Raises unless all stages have deferred the same collectives of those that they share.

    What stages share are collectives on "pp" and "world", such as the sum that a global norm needs. Every rank can make
    all ranks' graphs, so each checks by itself, before anything runs.

    Args:
        ranks: the rotated graphs of each pipeline rank.

    Raises:
        RotateError: one rank has deferred a collective that another runs in its own step.

    Example:
        >>> import torch, funpipe as fp
        >>> weights = {"a": torch.ones(3, 9), "b": torch.ones(9, 2)}
        >>> traced = fp.trace(lambda p, x: (x @ p["a"] @ p["b"]).sum(), weights, torch.ones(1, 3))
        >>> optimizer = fp.optim.chain(fp.optim.clip_by_global_norm(1.0), fp.optim.sgd(0.1))
        >>> stages, table = fp.stages.partition(traced, (1,)), fp.schedules.GPipe().table(2, 1)
        >>> programs = fp.programs.lower(traced, stages, table, optimizer=optimizer)
        >>> graphs = [fp.programs.graph_of(programs, rank, optimizer) for rank in (0, 1)]
        >>> require_agreement([fp.passes.rotated(graph, fp.passes.collectives(axis="pp")) for graph in graphs])
    """
    for part in _PARTS:
        for axis in ("pp", "world"):
            each = [_collectives(getattr(rank, part), axis) for rank in ranks]
            for number, found in enumerate(each):
                if found != each[0]:
                    raise RotateError(_text(part, axis, number, found, each[0]))


def _collectives(graph: Graph, axis: str) -> list[str]:
    return [_described(graph, node) for node in graph.nodes if is_start(node) and axis_of(node) == axis]


def _described(graph: Graph, node: Node) -> str:
    kinds = ", ".join(type_text(graph.type_of(ref.name)) for ref in refs_in(node.args))
    return f"{operator_name(node.target)}({kinds})"


def _text(part: str, axis: str, number: int, found: list[str], first: list[str]) -> str:
    return (
        f"the ranks have deferred different collectives on {axis!r}: in {part}, rank 0 starts {first or 'none'} and "
        f"rank {number} {found or 'none'}, so they would wait for each other: defer the same ones on all stages, or "
        "those on 'dp' alone."
    )
