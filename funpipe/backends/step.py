"""The `step` backend: a rank's whole program as one compiled function."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from funpipe.backends import ops
from funpipe.backends.ahead import ahead_of_time, callable_of
from funpipe.backends.compiled import Request
from funpipe.backends.emit import Emitted, emit
from funpipe.backends.order import check_order
from funpipe.optim import Optimizer
from funpipe.programs.program import Program, Programs


class WholeStep:
    """A compiled step.

    Args:
        program: what it runs.
        emitted: the source that was compiled.
        function: the compiled function.
        code: what the compiler wrote.
    """

    def __init__(self, program: Program, emitted: Emitted, function: Callable[..., Any], code: str) -> None:
        self.program, self.emitted, self.function, self.code = program, emitted, function, code
        self.token = torch.zeros(1, device="cpu")

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        results = self.function(self.token, *inputs)
        state = dict(zip(self.program.inputs, inputs, strict=True))
        return state | dict(zip(self.emitted.outputs, results, strict=True))

    def as_text(self) -> str:
        """The program, and the source that was compiled."""
        return f"{self.program.as_text()}\n\n{self.emitted.source}"


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
        CompileError: torch cannot compile it, or the generated code communicates in another order than the program.
    """
    program = programs.programs[request.rank]
    emitted = emit(programs, request.rank, optimizer, request.transport)
    what = f"rank {program.rank}: the step"
    function, code = ahead_of_time(_function(emitted, request.fuse), (torch.zeros(1, device="cpu"), *example), what)
    check_order(program, code, request.transport)
    return WholeStep(program, emitted, function, code)


def _function(emitted: Emitted, fuse: bool) -> Callable[..., Any]:
    made = {name: _region(name, emitted.regions[name], fuse) for name in dict.fromkeys(emitted.first.values())}
    names: dict[str, Any] = {"torch": torch, "ops": getattr(torch.ops, ops.NAMESPACE)}
    names |= {name: made[first] for name, first in emitted.first.items()} | emitted.inlined
    exec(compile(emitted.source, "<step>", "exec"), names)
    return names["step"]


def _region(name: str, graph: fx.GraphModule, fuse: bool) -> Callable[..., Any]:
    """A graph as a region that is compiled once and called for each microbatch, or as a part of the whole."""
    function = callable_of(name, graph)
    return function if fuse else torch.compiler.nested_compile_region(function)
