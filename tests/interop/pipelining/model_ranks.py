"""Real models on two processes: each builds its own stage, the first has the arguments, the last the loss."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from funpipe.interop.pipelining import Schedule1F1B, ScheduleGPipe, SplitPoint, pipeline
from tests.models.entry import Entry
from tests.models.listed import entry
from tests.models.through_pipeline import MICROBATCHES, quiet

SCHEDULES = {"GPipe": ScheduleGPipe, "1F1B": Schedule1F1B}


def train_all(names: Sequence[str], backend: str = "interpret") -> dict[str, str]:
    """For each model and schedule what is wrong on this rank; nothing: it trains as the whole model does."""
    dist.init_process_group("gloo")
    return {f"{name}, {kind}": _tried(entry(name), kind, backend) for name in names for kind in SCHEDULES}


def _tried(one: Entry, kind: str, backend: str) -> str:
    try:
        _train(one, kind, backend)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:600]
    return ""


def _train(one: Entry, kind: str, backend: str) -> None:
    rank, model, whole = dist.get_rank(), one.build(), one.build()
    given = [one.inputs(i) for i in range(MICROBATCHES)]
    wanted = [one.loss(whole(*args, **kwargs)) for args, kwargs in given]
    (torch.stack(wanted).sum() / MICROBATCHES).backward()
    with quiet():
        pipe = pipeline(model, *given[0], split_spec=dict.fromkeys(one.two, SplitPoint.BEGINNING))
        schedule = SCHEDULES[kind](
            pipe.build_stage(rank, torch.device("cpu")),
            MICROBATCHES,
            loss_fn=lambda out, target: one.loss(out),
            backend=backend,
        )
        losses, mine = _step(schedule, rank, given)
    if rank == 1:
        torch.testing.assert_close(torch.stack(losses), torch.stack(wanted).detach())
        assert type(mine) is type(whole(*given[0][0], **given[0][1]))
    _compare(pipe.get_stage_module(rank), whole)


def _step(schedule: Any, rank: int, given: list[Any]) -> tuple[list[Any], Any]:
    losses: list[Any] = []
    if rank == 0:
        args, kwargs = [a for a, _ in given], [k for _, k in given]
        return losses, schedule.step(arg_mbs=args, kwarg_mbs=kwargs)
    return losses, schedule.step(target_mbs=[torch.zeros(1)] * MICROBATCHES, losses=losses)


def _compare(stage: nn.Module, whole: nn.Module) -> None:
    """Copies of a parameter on several stages all have the whole gradient."""
    for name, parameter in stage.named_parameters():
        wanted = whole.get_parameter(name).grad
        if wanted is not None:
            torch.testing.assert_close(parameter.grad, wanted, msg=lambda text, name=name: f"{name}: {text}")
