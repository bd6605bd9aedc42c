"""What each rank of the launched tests of pipelined graphs runs; in a module of its own, since processes import it."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch

import funpipe as fp
from funpipe import passes
from tests.api.models import batches, loss_fn, params_of, step_of
from tests.api.ranks import CLIPPED, MOMENTUM, share, weighted

STEPS = 5
PARTS = passes.rebucket(60, 140)
"""Each stage's gradients are reduced in two or three parts."""
PASSES = (passes.bucket(100, 200), passes.hoist_starts(), passes.sink_waits(), passes.update_early())
"""A choice that leaves the bits as they are."""


def as_program(mesh: Any, optimizer: Any, loss: Any) -> dict[str, Any]:
    """The train step itself."""
    step = step_of(loss, optimizer, mesh=mesh, num_microbatches=2)
    data = [share(batch, mesh) for batch in batches(STEPS)]
    state, losses = step.init(params_of(), data[0]), []
    for batch in data:
        state, metrics = step(state, batch)
        losses.append(metrics["loss"])
    return {"losses": losses, "params": step.gather(state)[0]}


def as_graph(
    mesh: Any, optimizer: Any, loss: Any, defer: Any = None, flush_after: Sequence[int] = (), backend: str = "interpret"
) -> dict[str, Any]:
    """The same with its buckets in parts and as a graph through passes, maybe rotated."""
    step = step_of(loss, optimizer, mesh=mesh, num_microbatches=2, passes=PARTS)
    data = [share(batch, mesh) for batch in batches(STEPS)]
    values: Any = step.values_of(step.init(params_of(), data[0]))
    graph = passes.compose(*PASSES)(step.as_graph())
    if defer is None:
        values, results = _folded(fp.compile_step(graph, mesh=mesh, backend=backend), values, data)
    else:
        values, results = _folded_rotated(fp.rotate(graph, defer), mesh, backend, values, data, flush_after)
    losses = [step.metrics_of(aux)["loss"] for aux in results]
    return {"losses": losses, "params": step.gather(step.state_of(values))[0]}


def _folded(run: Any, values: Any, data: Sequence[Any]) -> tuple[Any, list[Any]]:
    results = []
    for batch in data:
        values, aux = run(values, batch)
        results.append(aux)
    return values, results


def _folded_rotated(
    rotated: Any, mesh: Any, backend: str, values: Any, data: Sequence[Any], flush_after: Sequence[int]
) -> tuple[Any, list[Any]]:
    run, results = fp.compile_step(rotated, mesh=mesh, backend=backend), []
    state = run.init(values)
    for number, batch in enumerate(data):
        state, aux = run.step(state, batch)
        results.append(aux)
        if number in flush_after:
            state = run.flush(state)
    return run.flush(state).state, results


def four_ranks() -> dict[str, Any]:
    """Two replicas of two stages, interpreted."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    mesh = fp.mesh(pp=2, dp=2, device="cpu", timeout=120)
    on_dp, of_all = passes.waits(axis="dp"), passes.collectives()
    return {
        "program": as_program(mesh, MOMENTUM, loss_fn),
        "graph": as_graph(mesh, MOMENTUM, loss_fn),
        "waits": as_graph(mesh, MOMENTUM, loss_fn, on_dp, (0, 2)),
        "clipped program": as_program(mesh, CLIPPED, weighted),
        "clipped waits": as_graph(mesh, CLIPPED, weighted, on_dp),
        "clipped collectives": as_graph(mesh, CLIPPED, weighted, of_all, (1,)),
    }


def four_compiled() -> dict[str, Any]:
    """The same, compiled."""
    torch.set_num_threads(1)
    mesh = fp.mesh(pp=2, dp=2, device="cpu", timeout=300)
    return {"waits": as_graph(mesh, CLIPPED, weighted, passes.waits(axis="dp"), (1,), backend="step")}
