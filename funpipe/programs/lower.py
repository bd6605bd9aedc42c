"""Stages, a table and a mesh become the programs of all ranks.

Lowering writes the plain form: a value is sent as soon as it exists, and received just before it is read; the passes
then move receives up, let sent values go and free what is no longer read.
"""

from funpipe._typing import MeshShape
from funpipe.optim import Optimizer
from funpipe.programs.form import TRAIN_STEP, Form
from funpipe.programs.layout import Layout
from funpipe.programs.outline import Outline
from funpipe.programs.program import Programs
from funpipe.programs.rank import Rank
from funpipe.programs.shared import Shared
from funpipe.programs.source import Source, check_source
from funpipe.schedules import Table
from funpipe.schedules.codes import is_kind
from funpipe.stages.split_backward import split_backward
from funpipe.stages.stage import Stage
from funpipe.tracing.traced import Traced


def lower(
    traced: Traced | Outline,
    stages: tuple[Stage, ...],
    table: Table,
    *,
    mesh: MeshShape | None = None,
    optimizer: Optimizer | None = None,
    batch_dims: dict[str, int | None] | None = None,
    mean_buffers: bool = False,
    layout: Layout | None = None,
    form: Form = TRAIN_STEP,
    keyed: bool = False,
) -> Programs:
    """Lowers stages and a schedule to the programs of all ranks.

    Args:
        traced: the joint graph of one microbatch, or the outline of stages that were traced one by one.
        stages: its partition; where the table has I and W tasks, backwards that are whole are split.
        table: the schedule's table, with as many stages as there are. The microbatches of a stage may have a B, or an I
            and a W; a table of F tasks alone gives an evaluation.
        mesh: ranks along the pipeline and replicas; by default the table's ranks and one replica.
        optimizer: the update at the end of the step; None leaves the gradients of the buckets as results.
        batch_dims: the dimension along which each batch leaf is split, None for a replicated one; 0 by default.
        mean_buffers: average floating-point buffers over the replicas instead of returning replica 0's.
        layout: where the parameters live already (an evaluation beside a training step); None lays them out.
        form: how inputs and gradients look.
        keyed: whether the state has a key, for updates that draw; of what a model draws it is told from the graph.

    Returns:
        The programs, not yet passed through `funpipe.passes`.

    Raises:
        ProgramError: the table has another number of stages or ranks, or tasks that cannot be lowered.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> programs = fp.programs.lower(traced, fp.stages.partition(traced, ()), fp.schedules.GPipe().table(1, 2))
        >>> print(programs.programs[0].as_text().splitlines()[1])
        acc.w.0 = zero
    """
    mesh = mesh or MeshShape(table.num_ranks)
    outline = traced if isinstance(traced, Outline) else Outline.of(traced)
    dims: dict[str, int | None] = batch_dims if batch_dims is not None else dict.fromkeys(outline.batch, 0)
    stages = split_backward(stages) if is_kind(table.cells, "I", "W").any() else stages
    source = Source(outline, stages, table, mesh, optimizer, dims, mean_buffers, layout, form, keyed)
    check_source(source)
    made = Shared(source)
    programs = tuple(Rank(made, r).program() for r in range(mesh.pp))
    return Programs(
        mesh=mesh,
        programs=programs,
        regions={r.name: r for s in stages for r in made.regions_of(s)},
        messages=tuple(made.messages.values()),
        types=made.types,
        layout=made.layout,
        num_microbatches=table.num_microbatches,
        leaf_order=tuple(n for n in outline.params if n in outline.places),
        batch_dims=dims,
        reducers=made.reducers,
        divisor=source.divisor,
        keys=outline.keys,
        objects={} if isinstance(traced, Outline) else traced.objects,
    )
