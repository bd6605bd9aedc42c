"""Graph transformations that leave work open between steps."""

from collections.abc import Callable
from typing import Any

from torch import fx

from funpipe.interop.spmd.graph_optimization import find_all_descendants
from funpipe.interop.spmd.graph_utils import find_node
from funpipe.interop.spmd.iter_graph_module import IterGraphModule


def updates_moved(target: str = "addmm", final: bool = True) -> Callable[[fx.GraphModule], Any]:
    """Moves the first gradient's reduction and the whole update into the next step, before a node."""

    def transformation(gm: fx.GraphModule) -> IterGraphModule:
        moved = IterGraphModule(gm)
        starts = [
            find_node(moved.graph, lambda n, name=name: n.name == name)[0] for name in ("all_reduce", "_foreach_add")
        ]
        stop = find_node(moved.graph, lambda n: n.name == target)[0]
        moved.graph.move_to_next_iter_before(find_all_descendants(moved, starts), stop)
        if final:
            moved.finalize_setup()
        return moved

    return transformation
