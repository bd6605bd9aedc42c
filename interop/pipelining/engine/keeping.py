"""The optimizer's state of a step that updates parameters itself: they become views of flat buffers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funpipe.interop.pipelining.engine.running import Ready
from funpipe.interop.pipelining.engine.shared import Shared
from funpipe.interop.pipelining.errors import PipeNotImplementedError
from funpipe.optim import Optimizer
from funpipe.programs import Programs
from funpipe.runtime import fill, initial_slots


def initial_state(ready: Ready, modules: Mapping[int, nn.Module], optimizer: Optimizer | None) -> dict[str, Tensor]:
    """The state before the first step.

    Args:
        ready: the step.
        modules: this rank's stages; each trained parameter's data becomes a view of its buffer.
        optimizer: of the step; None: there is only the count of steps.
    """
    state = {"step": torch.zeros((), dtype=torch.int64)}
    programs = ready.planned.programs
    for name in programs.programs[ready.rank].inputs:
        kind, _, bucket = name.partition(".")
        if kind == "bucket":
            state[name] = _gathered(programs, bucket, modules)
            state |= initial_slots(optimizer, programs.layout.bucket(bucket), state[name])
    return state


def require_apart(modules: Mapping[int, nn.Module], shared: Sequence[Shared]) -> None:
    """Raises where several stages use one parameter, which the step would update once for each of them.

    Args:
        modules: this rank's stages.
        shared: the parameters that stages on several ranks use.
    """
    counts = Counter(id(p) for module in modules.values() for p in module.parameters())
    twice = [(i, n) for i, m in modules.items() for n, p in m.named_parameters() if counts[id(p)] > 1]
    for stage, name in (*(use for one in shared for use in one.uses), *twice):
        raise PipeNotImplementedError(
            f"optimizer= with the parameter {name!r} of stage {stage}, which another stage uses too, is not supported: "
            "leave optimizer= away and step an optimizer of torch.optim after step()."
        )


def require_unchanged(old: Programs, new: Programs) -> None:
    """Raises where the parameters that a step updates are not those of the step before: their state would not fit.

    Args:
        old, new: of all ranks, so that all of them raise.
    """
    before, now = _trained(old), _trained(new)
    odd = next((leaf for leaf in {**before, **now} if before.get(leaf) != now.get(leaf)), None)
    if odd is not None:
        stage, _, name = odd.partition(".")
        raise PipeNotImplementedError(
            f"the parameter {name!r} of stage {stage} was frozen, freed, or given another shape or dtype after the "
            "first step of a schedule with optimizer=: make a new schedule, or leave optimizer= away and step an "
            "optimizer of torch.optim after step()."
        )


def follow(ready: Ready, held: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Takes the values of parameters that the user replaced into the state, and makes them views of it again.

    Args:
        ready: the step.
        held: parameters and buffers by stage and name.
        state: the optimizer's.
    """
    here = [b for b in ready.planned.programs.layout.buckets if f"bucket.{b.name}" in state]
    for slot, flat in ((slot, state[f"bucket.{b.name}"]) for b in here for slot in b.slots):
        param, own = held[slot.leaf], slot.view(flat)
        if param.data_ptr() != own.data_ptr():
            own.copy_(param.detach())
            param.data = own


def _trained(programs: Programs) -> dict[str, tuple[Any, ...]]:
    return {s.leaf: (s.shape, b.dtype) for b in programs.layout.buckets for s in b.slots}


def _gathered(programs: Programs, name: str, modules: Mapping[int, nn.Module]) -> Tensor:
    bucket = programs.layout.bucket(name)
    params = {f"{i}.{n}": p for i, module in modules.items() for n, p in module.named_parameters()}
    flat = fill(bucket, params, next(iter(params.values())).device)
    for slot in bucket.slots:
        params[slot.leaf].data = slot.view(flat)
    return flat


def keep(state: dict[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Writes what a step left of its state back, where it does not lie there already.

    Args:
        state: changed.
        found: what the program returned.
    """
    for name, old in state.items():
        new = found.get(name, old)
        if new is not old:
            old.copy_(new)
