"""The `step` backend: a rank's whole program as one function of compiled graphs.

With `numerics="exact"` each different graph is compiled by itself, once on a machine, and the step's source calls them:
nothing that the compiler does depends on what is around a region, so neither do its bits. With `"fast"` the same source
is one `torch.compile` function, whose graphs may be fused with each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import CompileError
from funpipe.backends import ops
from funpipe.backends.ahead import ahead_of_time
from funpipe.backends.compiled import Request
from funpipe.backends.compiled_text import compiled_text
from funpipe.backends.emit import Emitted, emit
from funpipe.backends.link import Linked, function_of, keeps_old, link, one_by_one
from funpipe.backends.order import check_order
from funpipe.optim import Optimizer
from funpipe.programs.program import Program, Programs


class WholeStep:
    """A compiled step.

    Args:
        program: what it runs.
        emitted: its source.
        function: the compiled function.
        code: what the compiler wrote for each graph; one text named `step` where all are one function.
    """

    def __init__(
        self, program: Program, emitted: Emitted, function: Callable[..., Any], code: dict[str, tuple[str, ...]]
    ) -> None:
        self.program, self.emitted, self.function, self.code = program, emitted, function, code
        self.token = torch.zeros(1, device="cpu")

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        results = self.function(self.token, *inputs)
        state = dict(zip(self.program.inputs, inputs, strict=True))
        return state | dict(zip(self.emitted.outputs, results, strict=True))

    def as_text(self) -> str:
        """The graphs that the step calls, the kernels of each, and the source that runs."""
        return compiled_text(self.program, self.emitted, self.code)


def step(programs: Programs, request: Request, optimizer: Optimizer | None, example: Sequence[Tensor]) -> WholeStep:
    """Compiles a rank's program ahead of time; no communication runs.

    Args:
        programs: all ranks' programs.
        request: which rank, its transport, and whether regions may be fused.
        optimizer: for updates.
        example: the inputs of a step, for their types; not changed.

    Returns:
        The compiled step.

    Raises:
        CompileError: torch cannot compile it, or its code communicates in another order than the program.
    """
    program = programs.programs[request.rank]
    emitted = emit(programs, request.rank, optimizer, request.transport)
    made = _fused(program, emitted, example) if request.fuse else _linked(program, emitted, request)
    order = "\n".join(text for texts in made.code.values() for text in texts) if request.fuse else emitted.source
    check_order(program, order, request.transport)
    return made


def _linked(program: Program, emitted: Emitted, request: Request) -> WholeStep:
    made: Linked = link(emitted.graphs, request.report)
    function = function_of(emitted.source, "step", {"torch": torch, "ops": ops.DIRECT, **made.functions})
    code = {name: tuple(piece.code for piece in pieces) for name, pieces in made.pieces.items()}
    return WholeStep(program, emitted, function, code)


def _fused(program: Program, emitted: Emitted, example: Sequence[Tensor]) -> WholeStep:
    if any(keeps_old(graph) for graph in emitted.graphs.values()):
        raise CompileError(
            f"rank {program.rank}: the optimizer keeps in a slot what the parameters, or another slot, were before the "
            "update, and torch may overwrite those before it has copied them; use numerics='exact'."
        )
    graphs = {name: one_by_one(graph.module) for name, graph in emitted.graphs.items()}
    function = function_of(emitted.source, "step", {"torch": torch, "ops": ops.OPERATORS, **graphs})
    what = f"rank {program.rank}: the step"
    compiled, code = ahead_of_time(function, (torch.zeros(1, device="cpu"), *example), what)
    return WholeStep(program, emitted, compiled, {"step": (code,)})
