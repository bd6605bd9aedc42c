"""Sharded parameters are gathered while the layer before computes, and not earlier.

    depth=1                                          in flight
        p1 = all_gather(x1)                          x1
        w1 = wait_tensor(p1)
        p2 = all_gather(x2)                          x2, while layer 1 computes
        h1 = addmm(..., w1)
        w2 = wait_tensor(p2)
        p3 = all_gather(x3)                          x3, while layer 2 computes
        h2 = addmm(..., w2)

Source: Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", arXiv 2304.11277, section 3.3
(prefetching, and a limit of gathers in flight).
"""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial

from funpipe._errors import PassError
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Node
from funpipe.graphs.bound import bound, start_of
from funpipe.graphs.communication import is_wait
from funpipe.passes.base import Pass
from funpipe.passes.communication.cost_model import collective_bytes
from funpipe.passes.communication.light import feeders, followers
from funpipe.passes.communication.moves import Before, kept_order, late, soon


def prefetch_gathers(depth: int | None = 1, max_bytes: int | None = None) -> Pass:
    """Moves each `all_gather` to right behind the wait for the one that is used `depth` gathers before it.

    Gathers are taken in the order of their first use, whatever the order in which they were started, and each wait
    stands in front of its first reader. So they begin earlier than their use, and also later than at the begin of the
    step: what is gathered and not yet used never is more than `depth` tensors. What was gathered is kept as long as it
    has readers; nothing is gathered again.

    Args:
        depth: the most gathers in flight; None: as many as `max_bytes` allows.
        max_bytes: the most bytes of gathered tensors in flight; None: any number. One gather always may be.

    Returns:
        The pass. It costs the memory of what is in flight.

    Raises:
        PassError: a limit is not positive, or there is none.

    Example:
        >>> print(prefetch_gathers(depth=2))
        prefetch_gathers
    """
    for name, limit in (("depth", depth), ("max_bytes", max_bytes)):
        if limit is not None and limit < 1:
            raise PassError(f"prefetch_gathers: {name}={limit} lets nothing be gathered: pass 1 or more.")
    if depth is None and max_bytes is None:
        raise PassError("prefetch_gathers: without depth and max_bytes all is gathered at once: pass one of them.")
    fn = partial(_prefetched, depth=depth, max_bytes=max_bytes)
    after = ("bucket", "hoist_starts", "schedule")
    return Pass("prefetch_gathers", fn, after=after, repeats=True, reorders=True)


def _prefetched(graph: Graph, depth: int | None, max_bytes: int | None) -> Graph:
    gathers = _gathers(graph)
    waits = {wait.name for name in gathers for wait in graph.readers(name)}
    behind = followers(graph, lambda node: node.name in waits)
    before = kept_order(graph, reorders=True)
    sunk = late(graph, lambda node: node.name in waits or node.name in behind, before)
    fed = feeders(sunk, lambda node: node.name in gathers)
    moved = gathers | fed
    _hold_back(sunk, before, moved, _pairs(sunk, gathers, depth, max_bytes))
    return soon(sunk, lambda node: node.name in moved, before)


def _gathers(graph: Graph) -> frozenset[str]:
    """The gathers that may move: they are waited for in this step, by ranks that run the same graph."""
    gathers = [node.name for node in graph.nodes if node.target is OPERATORS.all_gather.default]
    fixed = bound(graph) | graph.returned
    return frozenset(name for name in gathers if name not in fixed and graph.readers(name))


def _pairs(
    graph: Graph, gathers: frozenset[str], depth: int | None, max_bytes: int | None
) -> Iterator[tuple[Node, str | None]]:
    """Each gather, in the order of use, with the wait that must be over before it starts, if there is one."""
    most, room = depth or len(gathers), float("inf") if max_bytes is None else max_bytes
    flying: deque[tuple[str, int]] = deque()
    over: str | None = None
    for start, wait in _first_waits(graph, gathers):
        nbytes = collective_bytes(graph, start)
        room -= nbytes
        while flying and (len(flying) >= most or room < 0):
            over, freed = flying.popleft()
            room += freed
        flying.append((wait, nbytes))
        yield start, over


def _first_waits(graph: Graph, gathers: frozenset[str]) -> Iterator[tuple[Node, str]]:
    """Each gather with the first wait for it, in the order of these waits."""
    seen: set[str] = set()
    for wait in filter(is_wait, graph.nodes):
        start = start_of(graph, wait)
        if start is not None and start.name in gathers and start.name not in seen:
            seen.add(start.name)
            yield start, wait.name


def _hold_back(graph: Graph, before: Before, moved: frozenset[str], pairs: Iterable[tuple[Node, str | None]]) -> None:
    """Each gather, and what feeds it and none in front of it, behind the wait that must be over."""
    seen: set[str] = set()
    for start, over in pairs:
        waiting = [start.name]
        while waiting:
            name = waiting.pop()
            if name in moved and name not in seen:
                seen.add(name)
                before[name].update([over] if over is not None else [])
                waiting += graph.by_name[name].reads
