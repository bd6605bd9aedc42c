"""What lowering starts from, and what has to fit together in it."""

from collections.abc import Hashable
from dataclasses import dataclass

import torch

from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.functional.precision import DynamicScale
from funpipe.optim import Optimizer
from funpipe.optim.base import Scope
from funpipe.optim.members import member
from funpipe.programs.form import TRAIN_STEP, Form
from funpipe.programs.layout import Layout
from funpipe.programs.outline import Outline
from funpipe.schedules import Table
from funpipe.stages.stage import Stage


@dataclass(frozen=True)
class Source:
    """What is lowered.

    Args:
        outline: the names and types at the edge of the model.
        stages: its partition.
        table: the schedule.
        mesh: ranks and replicas.
        optimizer: None leaves the gradients as results.
        batch_dims: the dimension along which each batch leaf is split, None for a replicated one.
        mean_buffers: whether buffers are averaged over the replicas.
        layout: where the parameters live already, or None.
        form: how inputs and gradients look.
        keyed: whether the state has a key.
    """

    outline: Outline
    stages: tuple[Stage, ...]
    table: Table
    mesh: MeshShape
    optimizer: Optimizer | None
    batch_dims: dict[str, int | None]
    mean_buffers: bool = False
    layout: Layout | None = None
    form: Form = TRAIN_STEP
    keyed: bool = False

    @property
    def scale(self) -> DynamicScale | None:
        """What the loss is multiplied by before the backward."""
        return self.outline.precision.scale if self.outline.precision else None

    @property
    def skips(self) -> bool:
        """Whether a step with a gradient that is not finite is skipped."""
        return self.scale is not None and self.optimizer is not None

    @property
    def makers(self) -> dict[str, int]:
        """The stage that makes each value."""
        return {v: s.index for s in self.stages for r in s.regions for v in r.outputs}

    @property
    def divisor(self) -> int | None:
        """What sums of gradients are divided by, where they do not weigh differently; None: by nothing."""
        return None if self.form.sum_gradients else self.table.num_microbatches * self.mesh.dp

    def label(self, leaf: str) -> Hashable:
        """The optimizer's label of a parameter."""
        if self.optimizer is None or self.optimizer.label is None:
            return None
        kind = self.outline.masters[leaf]
        return self.optimizer.label(leaf, torch.empty(kind.shape, dtype=kind.dtype, device="meta"))

    def scope(self, label: Hashable) -> Scope:
        """What the update of an element of a label reads."""
        return "element" if self.optimizer is None else member(self.optimizer, label)[0].scope


def check_source(source: Source) -> None:
    """Raises unless the table, the mesh and the stages fit together."""
    table, mesh, stages = source.table, source.mesh, source.stages
    if table.num_stages != len(stages):
        raise ProgramError(
            f"the schedule's table has {table.num_stages} stages, but the model is cut into {len(stages)}: cut it into "
            f"{table.num_stages}, or use a schedule with {len(stages)} stages on {mesh.pp} ranks."
        )
    if table.num_ranks != mesh.pp:
        raise ProgramError(
            f"the schedule's table has {table.num_ranks} ranks, but the mesh has pp={mesh.pp}: make the table with "
            f"num_ranks={mesh.pp}."
        )
    updated = sorted(n for s in stages for n in s.results if n.startswith("buffer."))
    if updated and not table.ascends("F"):
        raise ProgramError(
            f"the schedule runs a stage's forwards out of order, but {updated[0]!r} is updated from one microbatch to "
            "the next: use a schedule whose F tasks ascend (1f1b, gpipe)."
        )
