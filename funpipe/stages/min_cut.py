"""The minimum cut of a directed graph: which vertices lie on the side of the source.

By Dinic's algorithm (Y. Dinitz, "Algorithm for solution of a problem of maximum flow in a network with power
estimation", 1970): flow is pushed along shortest paths, a whole level graph at a time. Capacities are integers of any
size, so the cut is exact.
"""


class Network:
    """A directed graph with capacities; an edge and its reverse have the numbers 2i and 2i + 1.

    Args:
        size: the number of vertices.
    """

    def __init__(self, size: int) -> None:
        self._out: list[list[int]] = [[] for _ in range(size)]
        self._head: list[int] = []
        self._left: list[int] = []

    def edge(self, tail: int, head: int, capacity: int) -> None:
        """Adds an edge."""
        for at, to, left in ((tail, head, capacity), (head, tail, 0)):
            self._out[at].append(len(self._head))
            self._head.append(to)
            self._left.append(left)

    def source_side(self, source: int, target: int) -> list[bool]:
        """For each vertex whether a minimum cut leaves it with the source; of several cuts the one next to it."""
        while True:
            level = self._levels(source)
            if level[target] < 0:
                return [depth >= 0 for depth in level]
            self._saturate(source, target, level)

    def _levels(self, source: int) -> list[int]:
        """The distance of each vertex from the source along edges with capacity left; -1 out of reach."""
        level = [-1] * len(self._out)
        level[source] = 0
        waiting = [source]
        for at in waiting:
            for edge in self._out[at]:
                to = self._head[edge]
                if self._left[edge] and level[to] < 0:
                    level[to] = level[at] + 1
                    waiting.append(to)
        return level

    def _saturate(self, source: int, target: int, level: list[int]) -> None:
        """Pushes flow until every path that goes up a level with each edge is full."""
        untried = [iter(edges) for edges in self._out]
        path: list[int] = []
        at = source
        while True:
            edge = next((e for e in untried[at] if self._left[e] and level[self._head[e]] == level[at] + 1), None)
            if edge is not None:
                path.append(edge)
                at = self._head[edge]
                if at == target:
                    at = self._push(path)
                    untried[at] = iter(self._out[at])
            elif path:
                at = self._head[path.pop() ^ 1]
            else:
                return

    def _push(self, path: list[int]) -> int:
        """Fills a path, cuts it off at the first full edge, and returns where it ends now."""
        amount = min(self._left[edge] for edge in path)
        for edge in path:
            self._left[edge] -= amount
            self._left[edge ^ 1] += amount
        full = next(i for i, edge in enumerate(path) if not self._left[edge])
        end = self._head[path[full] ^ 1]
        del path[full:]
        return end
