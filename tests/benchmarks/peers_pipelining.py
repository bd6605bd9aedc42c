"""Several ranks as with torch.distributed.pipelining: eager or with compiled stages, and fused AdamW."""

from functools import partial
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.pipelining as original
from torch import Tensor

from tests.benchmarks.cases import Case
from tests.benchmarks.models import Chain, cross_entropy, part_of
from tests.benchmarks.steps import Peer, Read, Step


def loop(case: Case, model: Chain, compiled: bool, interface: ModuleType = original, **options: Any) -> Step:
    """A training step of this rank's part of a model; the process group is up.

    Args:
        case: the batch and the number of microbatches.
        model: the whole of it.
        compiled: whether stages are.
        interface: what stage and schedule are taken from.
        **options: more for the schedule; with `optimizer`, that one updates the parameters.
    """
    torch.set_num_threads(1)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    part = part_of(model, rank, ranks)
    optimizer = torch.optim.AdamW(part.parameters(), 1e-3, fused=True)
    if compiled:
        part.compile()
    stage = interface.PipelineStage(part, rank, ranks, torch.device("cpu"))
    schedule = interface.Schedule1F1B(stage, case.microbatches, cross_entropy, **options)
    x, y = case.batch()
    inputs = (x,) if rank == 0 else ()
    ends = rank == ranks - 1

    def step() -> Read:
        losses: list[Tensor] = []
        schedule.step(*inputs, target=y, losses=losses) if ends else schedule.step(*inputs)
        if "optimizer" not in options:
            optimizer.step()
            optimizer.zero_grad()
        return lambda: sum(loss.item() for loss in losses) / len(losses) if ends else None

    return step


def peers(case: Case, model: Chain) -> list[Peer]:
    """Eager stages and compiled stages."""
    return [
        Peer("pipelining, eager", partial(loop, case, model, False)),
        Peer("pipelining, compiled stages", partial(loop, case, model, True)),
    ]
