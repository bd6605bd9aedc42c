"""What a plan has to know about this machine beside the times of regions: links, sums, updates, the host's overhead."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

import funpipe as fp
from funpipe.planning.measured_link import link_of
from funpipe.runtime.transports import Distributed
from tests.benchmarks.meeting import meet
from tests.benchmarks.pairs import seconds

FEW, MANY = 16, 2**20
"""Numbers in a sum that is all latency, and in one that is all transfer."""

CALLS = 15


@dataclass(frozen=True)
class Machine:
    """Measured numbers.

    Args:
        message: the link between two pipeline ranks.
        reduction: the link of a sum between replicas.
        traffic: bytes per second of an update.
        overhead: seconds of a step besides its tasks, sums and update.
    """

    message: fp.planning.Link
    reduction: fp.planning.Link
    traffic: float
    overhead: float

    def cluster(self, devices: int) -> fp.Cluster:
        """A cluster of devices like this machine's; times of operations are measured apart."""
        links = fp.planning.Links(self.message, reduction=self.reduction, overlap=False)
        return fp.Cluster(devices, 1e11, 1e12, links, bandwidth=self.traffic, overhead=self.overhead)


def measured(pipeline: fp.Mesh, replicas: fp.Mesh, size: int, leaves: int = 2) -> Machine:
    """Measures on all ranks at once; rank 0's numbers are everybody's.

    Args:
        pipeline: a mesh of two pipeline ranks.
        replicas: one of two replicas.
        size: numbers in a rank's bucket: whether it fits a cache decides how fast an update is.
        leaves: of the parameters: what a step does besides grows with them.
    """
    latency, bandwidth = link_of(_transport(pipeline), pipeline.shape.pp)
    found = Machine(
        fp.planning.Link(bandwidth, latency), _reduction(replicas), _traffic(size), _overhead(pipeline, leaves)
    )
    told = [found]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]


def _transport(mesh: fp.Mesh) -> Distributed:
    step = fp.train_step(_nothing, fp.optim.sgd(0.1), mesh=mesh, stages=mesh.shape.pp, backend="interpret")
    transport = step.trace({"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, torch.ones(2, 2)).transport
    assert transport is not None
    return transport


def _nothing(params, x):
    return (x @ params["a"] @ params["b"]).sum()


def _reduction(mesh: fp.Mesh) -> fp.planning.Link:
    """Two passes of a ring of two: each has a latency and half the bytes."""
    transport = _transport(mesh)
    few, many = (_median(partial(transport.all_reduce, torch.zeros(n), "dp")) for n in (FEW, MANY))
    return fp.planning.Link(4 * MANY / (many - few), few / 2)


def _traffic(size: int) -> float:
    """The bytes per second of AdamW on one flat bucket: what `Stages.updating` counts, over what it takes."""
    bucket = {name: torch.zeros(size) for name in "pgmv"}

    @torch.compile(dynamic=False)
    def update(p, g, m, v):
        g.mul_(0.125)
        m.lerp_(g, 0.1)
        v.mul_(0.999).addcmul_(g, g, value=0.001)
        p.mul_(0.9999).addcdiv_(m, v.sqrt() + 1e-8, value=-1e-3)

    def step():
        bucket["g"] = torch.zeros(size)
        update(*bucket.values())

    return (4 + 2 * 2) * 4 * size / _median(step)


def _overhead(mesh: fp.Mesh, leaves: int) -> float:
    """A step that computes next to nothing: four regions, two messages, and all that is done for so many leaves."""
    step = fp.train_step(_scaled, fp.optim.adamw(1e-3), mesh=mesh, stages=mesh.shape.pp)
    x = torch.ones(2, 2)
    state = step.init({f"p{i}": torch.ones(2, 2) for i in range(leaves)}, x)

    def run():
        nonlocal state
        state, metrics = step(state, x)
        return lambda: metrics["loss"].item()

    seconds(run, 10, meet)
    return min(seconds(run, 20, meet) for _ in range(5))


def _scaled(params, x):
    for leaf in params.values():
        x = x * leaf
    return x.sum()


def _median(call: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        meet()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times[3:])
