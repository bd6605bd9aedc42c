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
        example: the inputs of a step, for their types; only a fused step (`request.fuse`) looks at them.

    Returns:
        The executable.

    Raises:
        FunpipeError: the name is unknown.
        CompileError: torch cannot compile it, or the compiler moved communication.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 1)}, torch.ones(2, 3))
        >>> programs = fp.programs.lower(traced, fp.stages.partition(traced, ()), fp.schedules.GPipe().table(1, 2))
        >>> programs.programs[0].inputs
        ('bucket.s0_float32', 'step', 'batch.')
        >>> inputs = [torch.ones(16), torch.tensor(0), torch.ones(4, 3)]
        >>> compile("interpret", programs, Request(0, 1), None, inputs)(inputs)["loss"]
        tensor(6.)
    """
    check_backend(name)
    return BACKENDS[name](programs, request, optimizer, example)


def check_backend(name: str) -> None:
    """Raises unless a backend of this name exists."""
    if name not in BACKENDS:
        raise FunpipeError(f"there is no backend {name!r}; use one of {', '.join(map(repr, BACKENDS))}.")
