"""Parameters that several stages use, on different ranks: each rank's part of their gradient is added up on all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from funpipe.interop.pipelining.engine.exchange import Ranks
from funpipe.schedules import Table

Use = tuple[int, str]
"""A stage, and a parameter's name in its module."""


@dataclass(frozen=True)
class Shared:
    """A parameter of stages on several ranks.

    Args:
        uses: by which stages, under which names.
        shape, dtype: its own.
    """

    uses: tuple[Use, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype


def kinds(stages: Sequence[Any], modules: Mapping[int, nn.Module]) -> dict[Use, tuple[tuple[int, ...], torch.dtype]]:
    """The shape and dtype of each parameter of this rank's stages that other stages use, too.

    Args:
        stages: of this rank.
        modules: theirs.
    """
    uses = [use for group in _groups(stages) for use in group if use[0] in modules]
    params = {i: dict(module.named_parameters()) for i, module in modules.items()}
    found = {(stage, name): params[stage][name] for stage, name in uses if name in params[stage]}
    return {use: (tuple(p.shape), p.dtype) for use, p in found.items()}


def shared(stages: Sequence[Any], table: Table, known: Mapping[Use, tuple[tuple[int, ...], torch.dtype]]) -> Any:
    """The parameters of stages on several ranks; those of one rank are one and the same tensor.

    Args:
        stages: of this rank.
        table: places all stages.
        known: what `kinds` gave on all ranks.
    """
    across = [g for g in _groups(stages) if len({table.placement[stage] for stage, _ in g}) > 1]
    return tuple(Shared(group, *known[group[0]]) for group in across if group[0] in known)


def _groups(stages: Sequence[Any]) -> Sequence[tuple[Use, ...]]:
    """What traced stages know of the whole model; of modules that were built by hand nobody knows."""
    info = next((s.pipe_info for s in stages if getattr(s, "pipe_info", None) is not None), None)
    return info.replicated if info is not None else ()


def add_up(gradients: dict[str, Tensor], parameters: Sequence[Shared], ranks: Ranks, device: torch.device) -> None:
    """Replaces the gradients of shared parameters by their sum over all ranks, so that all copies stay equal.

    Args:
        gradients: this rank's, by stage and name; changed.
        parameters: the same on all ranks.
        ranks: all of them.
        device: where this rank's gradients are.
    """
    for one in parameters:
        mine = [name for stage, leaf in one.uses if (name := f"{stage}.{leaf}") in gradients]
        total = torch.zeros(one.shape, dtype=one.dtype, device=device)
        for name in mine:
            total += gradients.pop(name)
        dist.all_reduce(total, group=ranks.group)
        gradients |= dict.fromkeys(mine[:1], total)
