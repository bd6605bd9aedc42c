"""Many small collectives become a few large ones: each costs a latency, and a link is best used in large pieces.

    p2 = all_reduce(g2)                 f2, f1 = view(g2, [-1]), view(g1, [-1])
    w2 = wait_tensor(p2)                p = all_reduce(cat([f2, f1]))
    p1 = all_reduce(g1)          →      w = wait_tensor(p)
    w1 = wait_tensor(p1)                s2, s1 = split(w)
                                        w2, w1 = view(s2), view(s1)

Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", arXiv 2006.15704,
section 3.2.3 (buckets, and a first one that is smaller so that communication begins early).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from funpipe._errors import PassError
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Node
from funpipe.graphs.bound import start_of
from funpipe.graphs.communication import is_start, is_wait
from funpipe.graphs.dead import eliminate_dead
from funpipe.graphs.order import by_data_flow
from funpipe.passes.base import Pass
from funpipe.passes.communication.coalesced import Coalesced
from funpipe.passes.communication.concatenated import Concatenated
from funpipe.passes.communication.groups import Limits, groups_of
from funpipe.passes.communication.light import feeders
from funpipe.passes.communication.merged import Merged
from funpipe.passes.communication.moves import kept_order, soon
from funpipe.passes.names import Names

Mode = Literal["concat", "coalesced"]
"""How a bucket is sent: as one tensor, or as a list of tensors."""

Closes = Literal["before", "after"]
"""When a bucket is full."""

_KINDS = {
    "concat": (
        Concatenated,
        frozenset({OPERATORS.all_reduce.default, OPERATORS.all_gather.default, OPERATORS.reduce_scatter.default}),
    ),
    "coalesced": (Coalesced, frozenset({OPERATORS.all_reduce.default})),
}


def bucket(
    first_bytes: int = 1 << 20, cap_bytes: int = 25 << 20, mode: Mode = "concat", closes: Closes = "before"
) -> Pass:
    """Groups collectives of one operator, reduction, axis, dtype and device, in the order in which inputs are ready.

    A bucket closes when the next collective would take it over its limit, or depends on it. A tensor that is larger
    than the limit is a bucket of its own; a bucket of one is left as it is. Bytes are elements by item size, of what a
    collective takes or gives, whichever is more. Each bucket is started as soon as its last tensor is ready.

    What an output besides the state depends on (a loss) shares no bucket with what the state alone depends on, so that
    `rotate` can put off the latter. Where ranks of an axis run other graphs (pipelined graphs, axes other than "dp")
    nothing is grouped, nor is what is started in one step and waited for in the next.

    Args:
        first_bytes: the limit of the first bucket of each kind; a small one is on its way early.
        cap_bytes: the limit of every other.
        mode: "concat" copies the tensors of a bucket into one, for `all_reduce`, `all_gather` and `reduce_scatter`;
            "coalesced" starts one `all_reduce_coalesced` of a list, which leaves the copying to the communicator, and
            leaves the other two alone, which have no such operator.
        closes: "before" keeps buckets within their limits; "after" has the collective that crosses the limit be the
            last of its bucket, as torch's DistributedDataParallel does.

    Returns:
        The pass. It costs memory for one more copy of a bucket. All gradients of a bucket wait for the last of them.

    Raises:
        PassError: a limit is not positive, or there is no such mode, or no such rule.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> print(*[node.name for node in bucket()(example()).nodes])
        g2 g1 p2_rows p1_rows bucket bucket_start bucket_wait bucket_parts w2_part w2 w1_part w1 u2 u1
        >>> print(*[node.name for node in bucket(mode="coalesced")(example()).nodes])
        g2 g1 bucket_start bucket_part bucket_part_1 w2 w1 u2 u1
    """
    if mode not in _KINDS:
        raise PassError(f"there is no mode {mode!r} of bucket: pass 'concat' or 'coalesced'.")
    if closes not in ("before", "after"):
        raise PassError(f"there is no closes={closes!r} of bucket: pass 'before' or 'after'.")
    for name, limit in (("first_bytes", first_bytes), ("cap_bytes", cap_bytes)):
        if not isinstance(limit, int | float) or not limit >= 1:
            raise PassError(f"bucket: {name}={limit!r} leaves no room for any tensor: pass 1 or more bytes.")
    fn = partial(_bucketed, limits=Limits(first_bytes, cap_bytes, closes), mode=mode)
    return Pass("bucket", fn, after=("dedupe",), repeats=True, reorders=True)


def _bucketed(graph: Graph, limits: Limits, mode: Mode) -> Graph:
    """Starts are put where they are ready, grouped, and what takes their place is sorted by data flow."""
    live = eliminate_dead(graph)
    fed, before = feeders(live), kept_order(live, reorders=True)
    ready = soon(live, lambda node: is_start(node) or node.name in fed, before)
    groups = groups_of(ready, before, _KINDS[mode][1], limits)
    return with_groups(ready, groups, mode)


def with_groups(graph: Graph, groups: Sequence[tuple[Node, ...]], mode: Mode) -> Graph:
    """The graph with one collective in place of each group.

    Args:
        graph: the graph.
        groups: starts, as `groups_of` gives them for this graph.
        mode: how the members of a group are sent.
    """
    names = Names(graph)
    nodes = _rewritten(graph, [_KINDS[mode][0](graph, group, names) for group in groups])
    made = graph.replace(nodes=tuple(nodes))
    return made.replace(nodes=tuple(by_data_flow(made.nodes, kept_order(made), lambda node, at: at)))


def _rewritten(graph: Graph, buckets: list[Merged]) -> Iterator[Node]:
    """The nodes with each bucket's in their place: its start where its last member was, its waits where they were."""
    of = {member.name: each for each in buckets for member in each.members}
    for node in graph.nodes:
        if node.name in of:
            if node is of[node.name].members[-1]:
                yield from of[node.name].started()
        elif is_wait(node) and (start := start_of(graph, node)) is not None and start.name in of:
            yield from of[start.name].waited(start, node)
        else:
            yield node
