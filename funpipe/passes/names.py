"""Names for new nodes while they are written, before a graph has them."""

from funpipe.graphs import Graph


class Names:
    """Gives names that neither a graph nor what was written so far has.

    Args:
        graph: whose names are taken.

    Example:
        >>> from funpipe.passes.communication.example import example
        >>> names = Names(example())
        >>> names.fresh("part"), names.fresh("part"), names.fresh("g2")
        ('part', 'part_1', 'g2_1')
    """

    def __init__(self, graph: Graph) -> None:
        self.taken = {*graph.inputs, *graph.by_name}
        self.numbers: dict[str, int] = {}

    def fresh(self, name: str) -> str:
        """The name, or with a number behind it where it is taken.

        Args:
            name: the wanted one.
        """
        tried, number = name, self.numbers.get(name, 0)
        while tried in self.taken:
            number += 1
            tried = f"{name}_{number}"
        self.numbers[name] = number
        self.taken.add(tried)
        return tried

    def release(self, name: str) -> None:
        """A node of this name goes, so that another may have it.

        Args:
            name: of the node.
        """
        self.taken.discard(name)
