"""Costs measured on the machine at hand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor, fx

from funpipe.backends.compiled import Report, silent
from funpipe.backends.transport import Transport
from funpipe.planning.measured import Measured, signature
from funpipe.planning.measured_inputs import inputs_of
from funpipe.planning.measured_link import link_of
from funpipe.planning.measured_nodes import node_seconds
from funpipe.planning.measured_regions import region_calls, region_seconds, with_times
from funpipe.stages import Roofline, Stage, StageCosts, partition
from funpipe.stages.costs import bytes_of, computes, flops_of, is_product
from funpipe.tracing.traced import Traced

T = TypeVar("T")


def profile(
    traced: Traced,
    *,
    backend: str = "step",
    values: Mapping[str, Tensor] | None = None,
    transport: Transport | None = None,
    num_ranks: int = 1,
    report: Report = silent,
) -> Measured:
    """Measures what the nodes of a loss function take, and how long messages do.

    Each different operation is timed once, operator by operator. For the `step` backend the forward and the backward
    are compiled as they are for one stage, too, and their times are given to their nodes, to each its share: so that
    the sum over any stage is about what its compiled regions take.

    Where there are several processes, all of them call it. They measure at the same time, because processes that
    compute at once slow each other down, and all return what rank 0 has measured, so that they decide alike.

    Args:
        traced: the joint graph of one microbatch; one that was traced on meta tensors is measured on the CPU.
        backend: `"step"`, or `"interpret"`: operator by operator.
        values: real tensors for some of the leaves, by name (`"batch.x"`, `"param.w"`); else small random numbers, and
            zeros for integers.
        transport: between the pipeline's ranks; None: a message is a copy in memory.
        num_ranks: pipeline ranks that the transport connects.
        report: is told before each graph that is compiled.

    Returns:
        Costs for `fp.stages.balanced`, for `fp.plan` and for `fp.stages.stage_costs`.

    Raises:
        FunpipeError: there is no such backend.
        CompileError: torch cannot compile a graph.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(64, 64), "b": torch.ones(64, 2)}, torch.ones(8, 64))
        >>> costs = fp.planning.profile(traced, backend="interpret")
        >>> len(fp.stages.balanced(2, costs=costs)(traced))
        1
    """
    inputs = inputs_of(traced, values)
    stages = partition(traced, ())
    calls = region_calls(stages, inputs, backend=backend, report=report)
    meet()
    alone = node_seconds(traced, inputs)
    nodes = [n for n in traced.graph.nodes if computes(n)]
    times = region_seconds(calls) if backend == "step" else {}
    shared = _shared(stages, alone, times) if backend == "step" else alone
    latency, bandwidth = link_of(transport, num_ranks, next((t.device for t in traced.batch.values()), "cpu"))
    measured = Measured(
        nodes=shared,
        flops=_rate(filter(is_product, nodes), shared, flops_of),
        bandwidth=_rate((n for n in nodes if not is_product(n)), shared, bytes_of),
        latency=latency,
        link=bandwidth,
        backend=backend,
        together=dist.get_world_size() if dist.is_initialized() else 1,
    )
    return from_rank_0(measured)


def profile_stages(
    traced: Traced,
    stages: Sequence[Stage],
    *,
    backend: str = "step",
    values: Mapping[str, Tensor] | None = None,
    report: Report = silent,
) -> StageCosts:
    """Measures what the regions of a partition take: the very graphs that a step calls.

    Where there are several processes, all of them call it, measure at the same time, and return what rank 0 has.

    Args:
        traced: the joint graph of one microbatch, as for `profile`.
        stages: its partition, rematerialised and split as the step's.
        backend, values, report: as for `profile`.

    Returns:
        The costs of the partition with measured times, for `fp.schedules.simulate`.

    Raises:
        FunpipeError: there is no such backend.
        CompileError: torch cannot compile a region.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(64, 64), "b": torch.ones(64, 2)}, torch.ones(8, 64))
        >>> stages = fp.stages.partition(traced, (1,))
        >>> costs = fp.planning.profile_stages(traced, stages, backend="interpret")
        >>> len(costs.F), min(costs.B) > 0
        (2, True)
    """
    calls = region_calls(stages, inputs_of(traced, values), backend=backend, report=report)
    meet()
    return from_rank_0(with_times(stages, region_seconds(calls)))


def meet() -> None:
    """Waits until all processes are here, if there are several."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def from_rank_0(value: T) -> T:
    """What rank 0 passes, on every rank.

    Args:
        value: can be pickled.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def _shared(stages: Sequence[Stage], alone: Mapping[str, float], times: Mapping[str, float]) -> dict[str, float]:
    """The times of compiled regions, given to their nodes: to each its share of what they take one by one."""
    found: dict[str, list[float]] = {}
    least = 0.9 * min(alone.values(), default=0.0)  # nine tenths of the cheapest call are the call itself
    for region in (r for s in stages for r in s.regions):
        nodes = [n for n in region.module.graph.nodes if computes(n)]
        weights = [alone.get(signature(n), least) - least for n in nodes]
        total = sum(weights)
        for node, weight in zip(nodes, weights, strict=True):
            found.setdefault(signature(node), []).append(times[region.name] * weight / total)
    return {name: sum(parts) / len(parts) for name, parts in found.items()}


def _rate(nodes: Iterable[fx.Node], times: Mapping[str, float], amount: Callable[[fx.Node], int]) -> float:
    """Amounts a second, over all the nodes; that of `Roofline` where there are none."""
    known = [(amount(n), times[signature(n)]) for n in nodes if signature(n) in times]
    total = sum(seconds for _, seconds in known)
    if not total:
        return Roofline().flops if amount is flops_of else Roofline().bandwidth
    return sum(count for count, _ in known) / total
