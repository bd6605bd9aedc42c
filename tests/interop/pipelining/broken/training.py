"""What cases that train share: a batch, a layer, a loss, schedules over stages of this process, gradients compared."""

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.interop.pipelining.broken.cases import Interface

CPU = torch.device("cpu")


def squares(output: Tensor, target: Tensor) -> Tensor:
    """A loss."""
    return nn.functional.mse_loss(output, target)


def batch(rows: int = 4) -> tuple[Tensor, Tensor]:
    """Inputs and targets of four columns."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 4, generator=generator), torch.randn(rows, 4, generator=generator)


def linear(seed: int = 0) -> nn.Sequential:
    """A layer, the same every time."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def manual(interface: Interface, modules: Sequence[nn.Module], name: str, microbatches: int = 2, **options: Any) -> Any:
    """A schedule of stages made by hand, all of them in this process."""
    count = len(modules)
    made = [interface.PipelineStage(module, i, count, CPU) for i, module in enumerate(modules)]
    return over(interface, made, name, microbatches, **options)


def traced(interface: Interface, pipe: Any, name: str, microbatches: int = 2, **options: Any) -> Any:
    """A schedule of traced stages, all of them in this process."""
    made = [pipe.build_stage(i, CPU) for i in range(pipe.num_stages)]
    return over(interface, made, name, microbatches, **options)


def over(interface: Interface, made: list[Any], name: str, microbatches: int, **options: Any) -> Any:
    """A schedule by name over stages; the classes for one stage take it alone."""
    one = name in ("ScheduleGPipe", "Schedule1F1B")
    return interface.schedule(name, made[0] if one else made, microbatches, **options)


def train(schedule: Any, *args: Any, **options: Any) -> Any:
    """One step without what it warns of."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        return schedule.step(*args, **options)


def gradients(modules: Sequence[nn.Module]) -> list[Tensor | None]:
    """Of all parameters."""
    return [parameter.grad for module in modules for parameter in module.parameters()]


def agree(modules: Sequence[nn.Module], expected: Sequence[nn.Module]) -> bool:
    """Whether all gradients are those of other modules."""
    pairs = zip(gradients(modules), gradients(expected), strict=True)
    return all(a is not None and b is not None and torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def reference(modules: Sequence[nn.Module], x: Tensor, y: Tensor) -> Sequence[nn.Module]:
    """The same modules after a backward without a pipeline."""
    squares(nn.Sequential(*modules)(x), y).backward()
    return modules
