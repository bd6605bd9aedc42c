"""`plan`: from a loss function and a cluster to a ranked list of ways to train."""

from collections.abc import Callable, Sequence
from typing import Any

from funpipe._errors import FunpipeTypeError, PlanError
from funpipe._typing import Tree
from funpipe.optim import Optimizer, adamw
from funpipe.planning.candidate import Space
from funpipe.planning.choices import require_choices
from funpipe.planning.cluster import Cluster
from funpipe.planning.defaults import SCHEDULES
from funpipe.planning.layered import CutAtLayers
from funpipe.planning.limits import limit_of
from funpipe.planning.model import CutAnywhere
from funpipe.planning.plans import Plan, Plans
from funpipe.planning.search import Search
from funpipe.planning.source import Pricing, Source
from funpipe.schedules import Schedule, resolve
from funpipe.stages import Remat, Roofline


def plan(
    loss_fn: Callable[..., Any],
    params: Tree,
    batch: Tree,
    *,
    cluster: Cluster,
    global_batch: int,
    optimizer: Optimizer | None = None,
    buffers: Tree = None,
    batch_spec: Tree = 0,
    layers: int | None = None,
    schedules: Sequence[str | Schedule] | None = None,
    remat: Sequence[Remat] = ("none", "full"),
    shard: Sequence[int] = (0,),
    rows: Sequence[int] | None = None,
    pp: Sequence[int] | None = None,
    costs: Pricing | None = None,
    top: int = 10,
) -> Plans:
    """The fastest ways to train a model on a cluster, with what each takes; nothing is run and no memory is taken.

    Every number of ranks and replicas that uses all devices, every microbatch that divides a replica's batch, every
    schedule and every rematerialisation is considered, and the result is what simulating all of them would put first.

    Args:
        loss_fn: as for `train_step`.
        params: real, fake or on the meta device; only shapes and dtypes are read.
        batch: the same, of any number of rows.
        cluster: the devices.
        global_batch: rows of a step on all replicas together.
        optimizer: whose state counts; AdamW by default.
        buffers: as for `train_step`, if the loss function takes them.
        batch_spec: as for `train_step`.
        layers: the model's number of equal layers, where the one that is passed has fewer, at least five: they are
            found in its graph, and it is cut between them. None: the model is what is passed, and is cut anywhere.
        schedules: to choose from, by name or value; all by default.
        remat: to choose from, as for `train_step`; with `layers`, "none" and "full" only.
        shard: ZeRO stages to choose from, 0 to 3. `train_step` runs 0; what the others would take is a forecast.
        rows: rows of a microbatch to choose from; all divisors of a replica's batch by default.
        pp: numbers of pipeline ranks to choose from; all divisors of the number of devices by default.
        costs: times of operations, as `planning.profile` measures them, or a function that gives them for a traced
            graph; by default those of `Roofline` with the cluster's numbers.
        top: how many plans to return.

    Returns:
        The plans, the fastest first: `fp.train_step(loss_fn, optimizer, **plans[0].options)`. `print(plans)` shows them
        with what limits each, and why others fell out. It is empty if nothing fits.

    Raises:
        PlanError: an argument that cannot be planned with.
        BatchError, TraceError, LossError: as for `train_step`.

    Example:
        >>> import torch, funpipe as fp
        >>> def loss_fn(params, x):
        ...     for w in params:
        ...         x = torch.tanh(x @ w)
        ...     return x.square().mean()
        >>> with torch.device("meta"):
        ...     params, batch = [torch.empty(1024, 1024) for _ in range(8)], torch.empty(1, 1024)
        >>> cluster = fp.Cluster(devices=2, flops=1e12, memory=120e6, links=1e9)
        >>> plans = fp.plan(loss_fn, params, batch, cluster=cluster, global_batch=4096, rows=(128,))
        >>> plans[0].mesh, plans[0].options["num_microbatches"], plans[0].limit
        (MeshShape(pp=2, dp=1), 32, 'compute')
    """
    _check(cluster, global_batch, top, layers)
    require_choices(cluster.devices, schedules=schedules, remat=remat, shard=shard, rows=rows, pp=pp)
    pricing = Roofline(cluster.flops, cluster.traffic, cluster.wiring.of((0, 0)).bandwidth) if costs is None else costs
    source = Source(loss_fn, params, batch, buffers, batch_spec, optimizer or adamw(), pricing)
    model = CutAnywhere(source) if layers is None else CutAtLayers(source, layers)
    space = Space(
        cluster.devices,
        global_batch,
        tuple(resolve(s) for s in (SCHEDULES if schedules is None else schedules)),
        tuple(remat),
        tuple(shard),
        None if rows is None else tuple(rows),
        None if pp is None else tuple(pp),
    )
    search = Search(model, source, cluster)
    outcome = search.run(space.candidates(), top)
    plans = [
        Plan(f.candidate, f.cut.cutter, f.cut.loads, f.prediction, limit_of(f, search), batch_spec)
        for f in outcome.found
    ]
    return Plans(tuple(plans), outcome.dropped, outcome.slower)


def _check(cluster: Cluster, global_batch: int, top: int, layers: int | None) -> None:
    if not isinstance(cluster, Cluster):
        raise FunpipeTypeError(f"cluster is of type {type(cluster).__name__}; pass fp.Cluster(devices=..., ...).")
    for name, value in (("global_batch", global_batch), ("top", top), ("layers", 1 if layers is None else layers)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PlanError(f"{name} is {value!r}; pass an int of at least 1.")
