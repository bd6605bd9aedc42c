"""The `step` backend: a rank's whole program as one function of compiled graphs.

With `numerics="exact"` each different graph is compiled by itself, once on a machine, and the step's source calls them:
nothing that the compiler does depends on what is around a region, so neither do its bits. With `"fast"` the same source
is one `torch.compile` function, whose graphs may be fused with each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from funpipe._errors import CompileError
from funpipe.backends import ops
from funpipe.backends.ahead import ahead_of_time
from funpipe.backends.compiled import Executable, Request
from funpipe.backends.compiled_text import compiled_text
from funpipe.backends.cuda_graph import check_possible, graphed
from funpipe.backends.emit import Emitted, Graph, emit
from funpipe.backends.inductor import Boxed
from funpipe.backends.link import Others, function_of, keeps_old, link, one_by_one
from funpipe.backends.numbers import Numbers, parted
from funpipe.backends.order import check_order
from funpipe.backends.rewrites.rewrite import DRAWS, rewritten
from funpipe.optim import Optimizer
from funpipe.programs.program import Program, Programs


class WholeStep:
    """A compiled step.

    Args:
        program: what it runs.
        emitted: its source.
        function: the compiled function.
        code: what the compiler wrote for each graph; one text named `step` where all are one function.
        numbers: where single numbers are worked out apart from the source: further arguments of the function.
    """

    def __init__(
        self,
        program: Program,
        emitted: Emitted,
        function: Callable[..., Any],
        code: dict[str, tuple[str, ...]],
        numbers: Numbers | None = None,
    ) -> None:
        self.program, self.emitted, self.function, self.code, self.numbers = program, emitted, function, code, numbers
        self.token = torch.zeros(1, device="cpu")

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        results = self.run(self.arguments(inputs))
        return dict(zip(self.program.inputs, inputs, strict=True)) | results

    def arguments(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Works out the numbers, if they are apart; gives the arguments of the rest."""
        return inputs if self.numbers is None else self.numbers(inputs)

    def run(self, arguments: Sequence[Tensor]) -> dict[str, Tensor]:
        """The rest: gives the program's outputs."""
        return dict(zip(self.emitted.outputs, self.function(self.token, *arguments), strict=True))

    def as_text(self) -> str:
        """The graphs that the step calls, the kernels of each, and the source that runs."""
        text = compiled_text(self.program, self.emitted, self.code)
        return text if self.numbers is None else f"{text}\n{self.numbers.parts.numbers}"


def step(programs: Programs, request: Request, optimizer: Optimizer | None, example: Sequence[Tensor]) -> Executable:
    """Compiles a rank's program ahead of time; no communication runs.

    Args:
        programs: all ranks' programs.
        request: which rank, its transport, whether regions may be fused, and whether it becomes a CUDA graph.
        optimizer: for updates.
        example: the inputs of a step, for their types; not changed.

    Returns:
        The compiled step.

    Raises:
        CompileError: torch cannot compile it, its code communicates in another order than the program, or it is to be a
            CUDA graph and cannot.
    """
    program = programs.programs[request.rank]
    device = next((programs.types[n].device for n in program.inputs if n != "step"), "cpu")
    check_possible(program, request.cuda_graph, device)
    emitted = emit(programs, request.rank, optimizer, request.transport)
    made = whole(program, emitted, request, example, device, others=_at_other_sizes(request, optimizer))
    order = "\n".join(text for texts in made.code.values() for text in texts) if request.fuse else emitted.source
    check_order(program, order, request.transport)
    return graphed(made, request.cuda_graph, device, writes=optimizer is not None)


def _at_other_sizes(request: Request, optimizer: Optimizer | None) -> Others | None:
    """The graphs of the same step for batches of other sizes, where it is compiled for every size."""
    sizes = request.sizes
    if sizes is None:
        return None
    return lambda: (emit(p, request.rank, optimizer, request.transport).graphs for p in sizes.others())


def whole(
    program: Program,
    emitted: Emitted,
    request: Request,
    example: Sequence[Tensor],
    device: str,
    apart: bool = False,
    others: Others | None = None,
) -> WholeStep:
    """Compiles the source of a step.

    Args:
        program: what it is of.
        emitted: the source.
        request: whether regions may be fused.
        example: the inputs of a step, for their types.
        device: where the state lives.
        apart: whether numbers are worked out apart on a CPU too.
        others: gives the graphs of the source at other sizes, where they are compiled for every size; None: for their
            own.
    """
    parts = parted(emitted) if apart or device != "cpu" else None
    rest = emitted if parts is None else parts.rest
    linked = None if request.fuse else link(emitted.graphs, request.report, others)
    graphs = _uncompiled(program, emitted) if linked is None else linked.functions
    numbers = None if parts is None else Numbers(parts, graphs, device)
    operators = ops.OPERATORS if linked is None else ops.DIRECT
    function = function_of(rest.source, "step", {"torch": torch, "ops": operators, **graphs})
    if linked is not None:
        code = {name: tuple(piece.code for piece in pieces) for name, pieces in linked.pieces.items()}
        return WholeStep(program, rest, function, code, numbers)
    given = example if numbers is None else numbers.among(example)
    fused, text = ahead_of_time(function, (torch.zeros(1, device="cpu"), *given), f"rank {program.rank}: the step")
    return WholeStep(program, rest, fused, {"step": (text,)}, numbers)


def _uncompiled(program: Program, emitted: Emitted) -> dict[str, Boxed]:
    """The graphs of a step that becomes one function."""
    if any(keeps_old(graph) for graph in emitted.graphs.values()):
        raise CompileError(
            f"rank {program.rank}: the optimizer keeps in a slot what the parameters, or another slot, were before the "
            "update, and torch may overwrite those before it has copied them; use numerics='exact'."
        )
    return {name: one_by_one(_drawn(graph)) for name, graph in emitted.graphs.items()}


def _drawn(graph: Graph) -> fx.GraphModule:
    """A graph with its draws written out; torch's compiler would call them one by one."""
    draws = any(node.target in DRAWS for node in graph.module.graph.nodes)
    return rewritten(graph.module, graph.types, DRAWS) if draws else graph.module
