"""The time of whole regions: the very graphs that a step calls, compiled and run one by one.

In a step a region runs beside those of other ranks; processes that compute at the same time on one machine share its
caches and its clock, so all ranks should measure at the same time.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.backends.compiled import Report, silent
from funpipe.backends.emit import Graph
from funpipe.backends.inductor import Boxed
from funpipe.backends.kernels import Kernel, kernel
from funpipe.backends.link import link, one_by_one
from funpipe.planning.measured_inputs import RUNS, WARM, Clock, elapsed, random
from funpipe.stages import Costs, Region, Stage, StageCosts, stage_costs

BACKENDS = ("step", "interpret")

LEAST = 0.5
"""Seconds in which regions are timed, at least."""


@dataclass(frozen=True, eq=False)
class Call:
    """A region that can be run.

    Args:
        name: of the region.
        function: takes a list of tensors, which it empties.
        inputs: the tensors.
        device: the type of the device that it runs on.
    """

    name: str
    function: Boxed
    inputs: tuple[Tensor, ...]
    device: str

    @torch.no_grad()
    def __call__(self) -> Sequence[Tensor]:
        """Runs it once."""
        return self.function(list(self.inputs))


def region_seconds(
    calls: Sequence[Call], rounds: int = RUNS, least: float = LEAST, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """The time of each region, by name, while nothing else slows the machine down.

    In each round every region runs once, so that it finds in the caches what a step leaves there. What else a machine
    does comes in bursts that outlast many rounds and can only make calls slower; so the rounds go on for a while, and
    the tenth percentile counts.

    Args:
        calls: the regions.
        rounds: how many are timed at least, after some that warm up.
        least: for how many seconds they go on at least.
        clock: is read before and after each call.
    """
    for _ in range(WARM):
        _round(calls, clock)
    start, times = clock(), []
    while len(times) < rounds or clock() - start < least:
        times.append(_round(calls, clock))
    return {call.name: low(column) for call, column in zip(calls, zip(*times, strict=True), strict=True)}


def _round(calls: Sequence[Call], clock: Clock) -> list[float]:
    return [elapsed(call, call.device, clock) for call in calls]


def low(times: Sequence[float]) -> float:
    """The tenth percentile: of fewer than ten, the least.

    Args:
        times: at least one.
    """
    return sorted(times)[len(times) // 10]


def region_calls(
    stages: Sequence[Stage], inputs: Mapping[str, Tensor], *, backend: str = "step", report: Report = silent
) -> tuple[Call, ...]:
    """Every region of a partition, compiled and bound to the values of one microbatch.

    Args:
        stages: as `partition`, `rematerialise` or `split_backward` gives them.
        inputs: a tensor for each leaf, by name: `param.NAME`, `batch.NAME`, …
        backend: `"step"`: as the compiled step calls them; `"interpret"`: operator by operator.
        report: is told before each graph that is compiled.

    Returns:
        The calls, in the order in which one microbatch goes through the stages.

    Raises:
        FunpipeError: there is no such backend.
        CompileError: torch cannot compile one.
    """
    if backend not in BACKENDS:
        raise FunpipeError(f"backend is {backend!r}; measure with one of {', '.join(map(repr, BACKENDS))}.")
    kernels = {region.name: made for region, made in _kernels(stages)}
    graphs = {name: Graph(made.module, made.types) for name, made in kernels.items()}
    compiled = link(graphs, report).functions if backend == "step" else {}
    values, calls = dict(inputs), []
    for name, made in kernels.items():
        bound = tuple(values[n] if n in values else random(t) for n, t in zip(made.inputs, made.types, strict=True))
        device = next((t.device for t in made.types), "cpu")
        calls.append(Call(name, compiled.get(name) or one_by_one(made.module), bound, device))
        values |= dict(zip(made.outputs, calls[-1](), strict=True))
    return tuple(calls)


def _kernels(stages: Sequence[Stage]) -> Iterator[tuple[Region, Kernel]]:
    """Each region with its kernel, in the order of one microbatch."""
    read = {n for s in stages for r in s.regions for n in r.inputs} | {n for s in stages for n in s.results.values()}
    backward = [(s, r) for s in reversed(stages) for r in s.regions if r.kind != "F"]
    for stage, region in [*((s, s.F) for s in stages), *backward]:
        terms = stage.terms_in(region.kind) if region.kind in ("B", "W") else {}
        pairs = [(f"acc.{leaf}.{k}", value) for leaf, places in terms.items() for k, value in places]
        added = {value for _, value in pairs}
        yield region, kernel(region, pairs, frozenset(v for v in region.outputs if v not in added or v in read))


def with_times(stages: Sequence[Stage], times: Mapping[str, float], costs: Costs | None = None) -> StageCosts:
    """The costs of a partition with measured times.

    Where a backward is not split into regions, I and W are its shares by `costs`.

    Args:
        stages: the partition.
        times: the time of each region in seconds, by name.
        costs: the time of a node; `Roofline()` by default.
    """
    found = stage_costs(stages, costs)
    B = tuple(times.get(f"B{s.index}", 0.0) for s in stages)
    parts = [_parts(s, times, (found.I[i], found.W[i]), B[i]) for i, s in enumerate(stages)]
    return replace(
        found,
        F=tuple(times[s.F.name] for s in stages),
        B=B,
        I=tuple(i for i, _ in parts),
        W=tuple(w for _, w in parts),
    )


def _parts(stage: Stage, times: Mapping[str, float], shares: tuple[float, float], whole: float) -> tuple[float, float]:
    if stage.I is not None or stage.W is not None:
        return times.get(f"I{stage.index}", 0.0), times.get(f"W{stage.index}", 0.0)
    total = sum(shares)
    return (whole * shares[0] / total, whole * shares[1] / total) if total else (0.0, 0.0)
