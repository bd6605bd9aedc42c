"""`GraphModuleTransformation`: the usual passes over a traced step, one after the other."""

from torch import fx

from funpipe.interop.spmd.graph_optimization import (
    comm_fusion_with_concat,
    remove_copy_from_optimizer,
    schedule_comm_wait,
)
from funpipe.interop.spmd.graph_utils import dump_graphs_to_files
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from funpipe.interop.spmd.rewriting.dump import dumping

_BUCKET_MB = 100


class GraphModuleTransformation:
    """What to do with the graph of a training step; pass it as `compile(gm_transformation=...)`.

    Args:
        enable_graph_optimization: whether all-reduces become a few large ones, whose waits are as late as can be.
        enable_inductor: whether the step is compiled.
        dump_graphs: whether graphs are written to files, `before_transformation_gm.graph`, `after_{pass}_….graph` and
            `iter_graph_{setup,main,cleanup}_gm.graph`, in a new temporary folder, which is logged.

    Example:
        >>> module = GraphModuleTransformation()(fx.symbolic_trace(lambda x: x + 1))
        >>> module(1), module(2, last_iter=True)
        (2, 3)
    """

    def __init__(
        self, *, enable_graph_optimization: bool = False, enable_inductor: bool = False, dump_graphs: bool = False
    ) -> None:
        self.enable_graph_optimization = enable_graph_optimization
        self.enable_inductor = enable_inductor
        self.dump_graphs = dump_graphs

    def __call__(self, gm: fx.GraphModule) -> IterGraphModule:
        """Transforms a graph module.

        Args:
            gm: the traced step; is not changed.

        Returns:
            The module that runs instead.
        """
        folder = _dumped({"before_transformation_gm": gm}) if self.dump_graphs else ""
        with dumping(folder):
            made = self._transformed(gm)
        if folder:
            _dumped(
                {f"iter_graph_{part}_gm": getattr(made, f"{part}_gm") for part in ("setup", "main", "cleanup")}, folder
            )
        return made

    def _transformed(self, gm: fx.GraphModule) -> IterGraphModule:
        made = IterGraphModule(gm, enable_inductor=self.enable_inductor)
        if self.enable_graph_optimization:
            comm_fusion_with_concat(made, _BUCKET_MB)
            schedule_comm_wait(made)
            remove_copy_from_optimizer(made)
        made.finalize_setup()
        return made


def _dumped(graphs: dict[str, fx.GraphModule], folder: str = "") -> str:
    return dump_graphs_to_files({name: gm.print_readable(False) for name, gm in graphs.items()}, folder)
