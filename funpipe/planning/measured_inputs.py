"""Tensors to measure with, and how long a call takes."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor

from funpipe._typing import TensorType
from funpipe.tracing.traced import Traced

RUNS = 9
"""Calls that are timed."""

WARM = 2
"""Calls before: the first one allocates, and finds its code and data in no cache."""

Clock = Callable[[], float]
"""The time in seconds, from any moment on."""


def inputs_of(traced: Traced, values: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """A tensor for each leaf of a graph, by its name in regions: `param.NAME`, `batch.NAME`, …

    Args:
        traced: the graph.
        values: real ones for some of them; else floating-point tensors are small random numbers, and all others zeros,
            which are valid indices.
    """
    given = {f"const.{name}": value for name, value in traced.consts.items()} | dict(values or {})
    leaves = {".".join(node.meta["leaf"]): TensorType.of(node.meta["val"]) for node in traced.leaves.values()}
    return {name: given[name].detach() if name in given else random(kind) for name, kind in leaves.items()}


def random(kind: TensorType) -> Tensor:
    """A tensor of a type: the same small random numbers every time, or zeros for integers and booleans.

    Args:
        kind: the type.
    """
    made = torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device=kind.device)
    if not kind.dtype.is_floating_point:
        return made.zero_()
    return made.normal_(std=0.02, generator=torch.Generator(kind.device).manual_seed(0))


def seconds(
    call: Callable[[], object], device: str = "cpu", runs: int = RUNS, clock: Clock = time.perf_counter
) -> float:
    """The median time of some calls, after others that warm up.

    Args:
        call: what is timed.
        device: the type of the device that it runs on.
        runs: how many calls are timed.
        clock: is read before and after each call.
    """
    return median([elapsed(call, device, clock) for _ in range(WARM + runs)][WARM:])


def elapsed(call: Callable[[], object], device: str = "cpu", clock: Clock = time.perf_counter) -> float:
    """The time of one call in seconds; what it started on a GPU is waited for.

    Args:
        call: what is timed.
        device: the type of the device that it runs on.
        clock: is read before and after it.
    """
    wait = torch.cuda.synchronize if device == "cuda" else _nothing
    wait()
    start = clock()
    call()
    wait()
    return clock() - start


def _nothing() -> None:
    """There is nothing to wait for."""
