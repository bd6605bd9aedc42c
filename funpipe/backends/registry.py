"""The backends by name."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.backends.compiled import Executable, Request
from funpipe.backends.step import step
from funpipe.backends.walk import interpret, regions
from funpipe.optim import Optimizer
from funpipe.programs.program import Programs

BACKENDS: dict[str, Callable[..., Any]] = {"interpret": interpret, "regions": regions, "step": step}
"""`interpret` runs operator by operator, `regions` compiles each region, `step` the whole program."""


def compile(
    name: str, programs: Programs, request: Request, optimizer: Optimizer | None, example: Sequence[Tensor]
) -> Executable:
    """Makes a rank's program ready to run.

    Args:
        name: `"interpret"`, `"regions"` or `"step"`.
        programs: all ranks' programs, after the passes.
        request: which rank, its transport, and whether regions may be fused.
        optimizer: for updates; None if the programs have none.
        example: the inputs of a step, for their types.

    Returns:
        The executable.

    Raises:
        FunpipeError: the name is unknown.
    """
    check_backend(name)
    return BACKENDS[name](programs, request, optimizer, example)


def check_backend(name: str) -> None:
    """Raises unless a backend of this name exists."""
    if name not in BACKENDS:
        raise FunpipeError(f"there is no backend {name!r}; use one of {', '.join(map(repr, BACKENDS))}.")
