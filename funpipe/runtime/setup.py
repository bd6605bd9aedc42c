"""What a step was asked to be: the arguments of `train_step`, and what follows from them without a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe._errors import FunpipeTypeError, MeshError, ScheduleError
from funpipe._typing import MeshShape, Tree
from funpipe.backends.compiled import CudaGraph
from funpipe.backends.registry import check_backend
from funpipe.functional.batch_spec import check_count
from funpipe.functional.precision import Precision
from funpipe.functional.random.keys import key as random_key
from funpipe.optim import Optimizer
from funpipe.passes.base import Pass
from funpipe.runtime.max_shapes import check_max_shapes
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.stage_counts import fewest_stages, nearest_counts, ranks_with
from funpipe.schedules import FromTable, Schedule, Table, merge, resolve
from funpipe.stages import Cutter, Remat
from funpipe.stages.remat import check_remat
from funpipe.tracing.ways import WAYS, Way

Numerics = Literal["exact", "fast"]


@dataclass(frozen=True)
class Setup:
    """The arguments of a step.

    Args:
        loss_fn: the loss function.
        optimizer: the update, or None.
        mesh: the processes, or None: this process plays every rank.
        stages: how the model is cut; None: at its marks, or evenly.
        schedule: a name, a schedule or a table.
        num_microbatches: of each replica.
        batch_spec: the batch dimension of each leaf of the batch.
        backend: `"interpret"`, `"regions"` or `"step"`.
        numerics: `"exact"` or `"fast"`.
        buffers: `"first"` returns replica 0's, `"mean"` averages floating-point ones over the replicas.
        remat: what each stage's backward computes again: one choice for all, or one for each.
        cuda_graph: whether the step becomes a CUDA graph; `"auto"`: where it can.
        passes: over the programs, behind those that every step goes through.
        precision: the dtypes of the step; None: those of the leaves.
        trace: the ways to trace that may be tried.
        key: of the random numbers, a seed or a key; None: there are none.
        max_shapes: how many compiled steps are kept.
        dynamic: the dimension of each leaf of the batch whose size changes; None: of none.
    """

    loss_fn: Callable[..., Any]
    optimizer: Optimizer | None
    mesh: Mesh | None
    stages: Cutter | int | None
    schedule: str | Schedule | Table
    num_microbatches: int
    batch_spec: Tree
    backend: str
    numerics: Numerics = "exact"
    buffers: Literal["first", "mean"] = "first"
    remat: Remat | Sequence[Remat] = "none"
    cuda_graph: CudaGraph = "auto"
    passes: tuple[Pass, ...] = ()
    precision: Precision | None = None
    trace: Way = "auto"
    key: int | Tensor | None = None
    max_shapes: int = 8
    dynamic: Tree = None

    def __post_init__(self) -> None:
        check_count(self.num_microbatches)
        check_backend(self.backend)
        check_remat(self.remat)
        check_max_shapes(self.max_shapes)
        _check_words(self)
        self.key_of()
        if self.optimizer is not None and not isinstance(self.optimizer, Optimizer):
            raise FunpipeTypeError(
                f"the optimizer is of type {type(self.optimizer).__name__}; pass one of funpipe.optim, such as "
                "fp.optim.adamw(3e-4), or fp.optim.from_pair(init, update)."
            )
        if self.mesh is not None and not isinstance(self.mesh, Mesh):
            raise FunpipeTypeError(
                f"mesh is {self.mesh!r}, of type {type(self.mesh).__name__}; pass mesh=fp.mesh(pp=..., dp=...), or "
                "None to play every rank in this process."
            )
        if self.mesh is None and dist.is_initialized() and dist.get_world_size() > 1:
            raise MeshError(
                f"mesh is None, but there are {dist.get_world_size()} processes, and each would train the whole model "
                "by itself: pass mesh=fp.mesh(pp=..., dp=...)."
            )

    def key_of(self, given: int | Tensor | None = None) -> Tensor | None:
        """The key of a state: the one that is given, else the step's own.

        Raises:
            FunpipeTypeError: it is neither a seed nor a key.
        """
        seed = self.key if given is None else given
        return None if seed is None else random_key(seed)

    @property
    def shape(self) -> MeshShape:
        """Ranks and replicas; one of each where this process plays every rank."""
        return self.mesh.shape if self.mesh else MeshShape(1)

    @property
    def rank(self) -> int:
        """This process's pipeline rank."""
        return self.mesh.pp_rank if self.mesh else 0

    @property
    def device(self) -> torch.device | None:
        """Where the state lives; None: where the parameters are."""
        return self.mesh.device if self.mesh else None

    def num_stages(self) -> int:
        """How many stages the schedule has on this mesh; where one process plays every rank: on the fewest it can."""
        schedule = resolve(self.schedule)
        if isinstance(schedule, FromTable):
            return schedule.fixed.num_stages
        return schedule.num_stages(self.mesh.shape.pp) if self.mesh else fewest_stages(schedule)

    def table(self, num_stages: int) -> Table:
        """The schedule's table for this mesh; with one process the ranks' rows merged into one.

        Args:
            num_stages: into how many stages the model is cut.

        Raises:
            ScheduleError, MeshError: the schedule is for another number of stages, ranks or microbatches.
        """
        schedule = resolve(self.schedule, max(1, num_stages // self.mesh.shape.pp) if self.mesh else None)
        ranks = self.mesh.shape.pp if self.mesh else _ranks_for(schedule, num_stages)
        if schedule.num_stages(ranks) != num_stages:
            raise _wrong_count(self, schedule, num_stages, ranks)
        table = schedule.table(ranks, self.num_microbatches)
        if not table.has_backwards:
            raise ScheduleError(
                f"the schedule {self.schedule!r} has no backwards, and a training step needs them: use a schedule that "
                "trains, such as 1f1b; fp.eval_step(fn, like=step) runs the forwards of a step's schedule."
            )
        return table if self.mesh else merge(table)


def _ranks_for(schedule: Schedule, num_stages: int) -> int:
    """The number of ranks on which a schedule has a number of stages."""
    ranks = ranks_with(schedule, num_stages)
    if ranks is None:
        counts = " or ".join(f"stages={count}" for count in nearest_counts(schedule, num_stages))
        raise ScheduleError(
            f"the schedule {schedule!r} has {num_stages} stages on no number of ranks: use {counts}, the nearest that "
            "it can have, or another schedule."
        )
    return ranks


def _wrong_count(setup: Setup, schedule: Schedule, num_stages: int, ranks: int) -> MeshError:
    wanted, other = schedule.num_stages(ranks), ranks_with(schedule, num_stages)
    mesh = f"a mesh with pp={other}, " if other else ""
    return MeshError(
        f"the model is cut into {num_stages} stages, but the schedule {setup.schedule!r} needs {wanted} on {ranks} "
        f"ranks: use stages={wanted}, {mesh}or another schedule."
    )


def _check_words(setup: Setup) -> None:
    for name, value, allowed in (
        ("numerics", setup.numerics, ("exact", "fast")),
        ("buffers", setup.buffers, ("first", "mean")),
        ("cuda_graph", setup.cuda_graph, ("auto", True, False)),
        ("trace", setup.trace, WAYS),
    ):
        # 1 equals True, and is not it: what asks `is True` later would take it for "auto".
        if not any(isinstance(value, type(word)) and value == word for word in allowed):
            raise FunpipeTypeError(f"{name} is {value!r}; use one of {', '.join(map(repr, allowed))}.")
    if setup.dynamic is not None and (setup.backend != "step" or setup.numerics != "exact"):
        raise FunpipeTypeError(
            f"dynamic is {setup.dynamic!r}, but backend={setup.backend!r} with numerics={setup.numerics!r} compiles "
            'for the sizes of each batch, if at all: use backend="step" with numerics="exact", or leave dynamic out.'
        )
    if setup.cuda_graph is True and setup.backend != "step":
        raise FunpipeTypeError(
            f'cuda_graph=True, but backend={setup.backend!r} walks the program on the host: use backend="step", or '
            "leave cuda_graph='auto'."
        )
