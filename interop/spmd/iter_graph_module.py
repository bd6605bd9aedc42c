"""`IterGraphModule`: a graph of one step that runs with some of its work moved into the next one."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import fx, nn
from torch.profiler import record_function

from funpipe.interop.spmd.errors import SpmdRuntimeError
from funpipe.interop.spmd.iter_graph import IterGraph as IterGraph
from funpipe.interop.spmd.partial_lower import partial_lower
from funpipe.interop.spmd.rewriting.convert import copied, graph_of, returned
from funpipe.interop.spmd.rewriting.nested import refilled
from funpipe.interop.spmd.rewriting.open_work import OpenWork
from funpipe.interop.spmd.rewriting.records import APPLIED
from funpipe.interop.spmd.rewriting.steps import steps_of

logger = logging.getLogger("IterGraphModule")


class IterGraphModule(nn.Module):
    """Runs a graph module step by step; nodes that were moved run in the step after their own.

    Edits of `graph`, moves among them, take effect with `recompile()` or `finalize_setup()`, as those of any
    `fx.GraphModule` do. Whether moves are possible is checked there.

    Between two steps the moved work of the first is open (`pending`), and the leaves of the state that it makes are
    what they were before (`stale`). A step with `last_iter=True` leaves nothing open, and `flush` completes the state
    at any other time; the next call begins anew.

    Args:
        main_gm: one whole step; is copied. `meta["inputs"]` and `meta["outputs"]` say which of its inputs and outputs
            are leaves of the state; without them nothing that an output needs can be moved.
        max_iters: the number of the step that is the last, and the first after it the first again; -1 for none.
        enable_inductor: whether `finalize_setup` has what runs in every step compiled.
    """

    def __init__(self, main_gm: fx.GraphModule, max_iters: int = -1, enable_inductor: bool = False) -> None:
        super().__init__()
        self.meta = dict(main_gm.meta)
        self._whole = fx.GraphModule(main_gm, IterGraph(main_gm.graph))
        self._lowered: fx.GraphModule | None = None
        self._calling = main_gm.graph
        self._work: OpenWork | None = None
        self._iter = 0
        self._max_iters = max_iters
        self._enable_inductor = enable_inductor
        APPLIED.note(self)

    @property
    def graph(self) -> IterGraph:
        """The graph of one whole step, which users edit."""
        return self._whole.graph  # type: ignore[return-value]

    @property
    def setup_gm(self) -> fx.GraphModule:
        """What runs in the first step."""
        return self._work.steps.setup.module if self._work else self._once

    @property
    def main_gm(self) -> fx.GraphModule:
        """What runs in every other step."""
        return self._work.steps.main.module if self._work else self._once

    @property
    def cleanup_gm(self) -> fx.GraphModule:
        """What runs in the last step, unless that is the first as well; then the whole step runs."""
        return self._work.steps.cleanup.module if self._work else self._once

    @property
    def _once(self) -> fx.GraphModule:
        """The whole step, compiled if that was asked for."""
        return self._lowered or self._whole

    @property
    def pending(self) -> bool:
        """Whether work of the last step is open."""
        return self._work is not None and self._work.pending

    @property
    def stale(self) -> tuple[int, ...]:
        """The positions of the outputs that are as they were before the last step; none unless `pending`."""
        return self._work.stale if self._work else ()

    def recompile(self) -> Any:
        """Has edits of the graph, and moves to the next step, take effect.

        Returns:
            The code of the whole step.

        Raises:
            SpmdRuntimeError: work of the last step is open.
            SpmdValueError: a move is not possible; the text names what reads what is moved.
        """
        if self.pending:
            raise SpmdRuntimeError(
                "the graph cannot change while work of the last step is open: end with last_iter=True, or call "
                "flush(...)."
            )
        code, moves = self._whole.recompile(), self.graph.moves
        graph = graph_of(self) if moves else None
        self._work = None if graph is None else OpenWork(graph, steps_of(graph, moves))
        self._lowered = None
        if self.graph.frozen:
            self._lower()
        return code

    def finalize_setup(self) -> None:
        """Freezes what moves, has edits take effect, and begins with the first step.

        Raises:
            SpmdRuntimeError: work of the last step is open.
            SpmdValueError: a move is not possible; the text names what reads what is moved.
        """
        if not self.graph.frozen:
            self.recompile()
            self.freeze_cross_iter_movement()
            self._lower()
        self._iter = 0

    def _lower(self) -> None:
        """Has what runs in every step compiled, if that was asked for."""
        if not self._enable_inductor:
            return
        lowered = partial_lower(copied(self.main_gm))
        if self._work:
            self._work.steps = self._work.steps.with_main(lowered)
        else:
            self._lowered = lowered

    def freeze_cross_iter_movement(self) -> None:
        """From here on nothing can be moved to the next step."""
        self.graph.freeze_cross_iter_movement()

    def forward(self, *args: Any, last_iter: bool = False, **kwargs: Any) -> Any:
        """Runs a step.

        Args:
            *args: of the graph module; the leaves of the state that are `stale` are not read.
            last_iter: whether no work is left open.
            **kwargs: more arguments of the graph module, by the names of its placeholders.

        Returns:
            What the graph module returns; of the leaves that are `stale` after the step the newest values there are.
        """
        self._iter += 1
        last = last_iter or self._iter == self._max_iters
        self._iter = 0 if last else self._iter
        flat = self._flat(args, kwargs)
        with record_function("## IterGraphModule ##"):
            if self._work is None or (last and not self.pending):
                return self._calling.process_outputs(self._once(*flat))
            return self._nested(self._work.step(flat, last))

    def flush(self, *args: Any, **kwargs: Any) -> Any:
        """Does the work that the last step left open; the next call begins with the first step again.

        Args:
            *args: as for a step, of which only leaves of the state are read; those that are `stale` are not.
            **kwargs: likewise.

        Returns:
            What the graph module returns, with None for what is no leaf of the state.

        Raises:
            SpmdRuntimeError: there is no open work.
        """
        if self._work is None:
            raise SpmdRuntimeError("nothing was moved to the next step, so there is no open work: look at `pending`.")
        self._iter = 0
        return self._nested(self._work.flush(self._flat(args, kwargs)))

    def _flat(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        flat = list(self._calling.process_inputs(*args))
        rest = self._calling.find_nodes(op="placeholder")[len(flat) :] if kwargs else []
        return flat + [kwargs[node.name] for node in rest]

    def _nested(self, values: list[Any]) -> Any:
        return self._calling.process_outputs(refilled(returned(self.graph), iter(values)))

    @property
    def code(self) -> str:
        """The Python code of the main graph."""
        return self.main_gm.code

    def print_readable(self, print_output: bool = True) -> str:
        """The code of the main graph."""
        return self.main_gm.print_readable(print_output)

    def print_all_graphs(self) -> None:
        """Logs the three graphs."""
        for name in ("setup", "main", "cleanup"):
            logger.info("%s fx.Graph:\n%s", name, getattr(self, f"{name}_gm").graph)

    def print_all_graph_modules(self) -> None:
        """Logs the code of the three graphs."""
        for name in ("setup", "main", "cleanup"):
            logger.info("%s fx.GraphModule:\n%s", name, getattr(self, f"{name}_gm").print_readable(False))
