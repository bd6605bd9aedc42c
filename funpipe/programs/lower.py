"""Stages, a table and a mesh become the programs of all ranks.

Lowering writes the plain form: a value is sent as soon as it exists, and received just before it is read; the passes
then move receives up, let sent values go and free what is no longer read.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

from funpipe._errors import ProgramError
from funpipe._typing import MeshShape, TensorType
from funpipe.optim import Optimizer
from funpipe.programs.instructions import Accumulate, Instruction, Microbatch, PostRecv, Run, Send, WaitRecv, Zero
from funpipe.programs.layout import Layout, layout
from funpipe.programs.message import Message
from funpipe.programs.program import Program, Programs
from funpipe.programs.tail import Tail
from funpipe.programs.types import value_types
from funpipe.schedules import Table, Task
from funpipe.stages.stage import Region, Stage
from funpipe.tracing.traced import Traced


@dataclass(frozen=True)
class Source:
    """What is lowered.

    Args:
        traced: the joint graph of one microbatch.
        stages: its partition.
        table: the schedule.
        mesh: ranks and replicas.
        optimizer: None leaves the gradients as results.
        batch_dims: the dimension along which each batch leaf is split, None for a replicated one.
        mean_buffers: whether buffers are averaged over the replicas.
    """

    traced: Traced
    stages: tuple[Stage, ...]
    table: Table
    mesh: MeshShape
    optimizer: Optimizer | None
    batch_dims: dict[str, int | None]
    mean_buffers: bool = False

    @property
    def makers(self) -> dict[str, int]:
        """The stage that makes each value."""
        return {v: s.index for s in self.stages for r in s.regions for v in r.outputs}

    def label(self, leaf: str) -> Hashable:
        """The optimizer's label of a parameter."""
        import torch

        if self.optimizer is None or self.optimizer.label is None:
            return None
        kind = self.traced.params[leaf]
        return self.optimizer.label(leaf, torch.empty(kind.shape, dtype=kind.dtype, device="meta"))


def lower(
    traced: Traced,
    stages: tuple[Stage, ...],
    table: Table,
    *,
    mesh: MeshShape | None = None,
    optimizer: Optimizer | None = None,
    batch_dims: dict[str, int | None] | None = None,
    mean_buffers: bool = False,
) -> Programs:
    """Lowers stages and a schedule to the programs of all ranks.

    Args:
        traced: the joint graph of one microbatch.
        stages: its partition.
        table: the schedule's table, with as many stages as there are; a table without B tasks gives an evaluation.
        mesh: ranks along the pipeline and replicas; by default the table's ranks and one replica.
        optimizer: the update at the end of the step; None leaves the gradients of the buckets as results.
        batch_dims: the dimension along which each batch leaf is split, None for a replicated one; 0 by default.
        mean_buffers: average floating-point buffers over the replicas instead of returning replica 0's.

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
    dims = {n: 0 for n in traced.batch} if batch_dims is None else batch_dims
    source = Source(traced, stages, table, mesh, optimizer, dims, mean_buffers)
    _check(source)
    made = _Lowering(source)
    programs = tuple(made.rank(r) for r in range(mesh.pp))
    return Programs(
        mesh=mesh,
        programs=programs,
        regions={r.name: r for s in stages for r in s.regions},
        messages=tuple(made.messages.values()),
        types=made.types,
        layout=made.layout,
        num_microbatches=table.num_microbatches,
        leaf_order=tuple(n for n in traced.params if n in traced.gradients),
        batch_dims=dims,
        reducers=made.reducers,
    )


def _check(source: Source) -> None:
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


@dataclass
class _Lowering:
    """Shared by all ranks: the messages and types. A message gets its id when either end is first written."""

    source: Source
    messages: dict[tuple[str, int], Message] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    reducers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source = self.source
        self.layout: Layout = layout(source.stages, source.traced.params, source.label, source.mesh.dp)
        self.types = value_types(source.traced, source.stages, self.layout, source.table.num_microbatches, source.batch_dims)
        self.makers = source.makers
        self.differentiates = any(s.terms for s in source.stages) and not _is_forward_only(source.table)
        self.readers: dict[str, dict[int, None]] = {}
        for stage in source.stages:
            regions = stage.regions if self.differentiates else (stage.F,)
            for value in (v for r in regions for v in r.inputs if v in self.makers):
                self.readers.setdefault(value, {}).setdefault(self.placement(stage.index))

    def placement(self, stage: int) -> int:
        """The rank of a stage."""
        return self.source.table.placement[stage]

    def message(self, value: str, src: int, dst: int, label: str) -> int:
        """The id of the one message that brings a value to a rank."""
        key = (value, dst)
        if key not in self.messages:
            self.messages[key] = Message(len(self.messages), src, dst, self.types[value], f"{label} value {value}")
        return self.messages[key].id

    def rank(self, rank: int) -> Program:
        """The program of one rank."""
        return _Rank(self, rank).program()


def _is_forward_only(table: Table) -> bool:
    return all(t.kind == "F" for rank in range(table.num_ranks) for t in table.order(rank))


class _Rank:
    """Writes the program of one rank."""

    def __init__(self, shared: _Lowering, rank: int) -> None:
        self.shared, self.rank = shared, rank
        self.source = shared.source
        self.stages = tuple(s for s in self.source.stages if shared.placement(s.index) == rank)
        self.out: list[Instruction] = []
        self.present: set[str] = set()
        self.buffers: dict[tuple[int, str], str] = {}
        self.versions: dict[tuple[int, int, str], str] = {}

    def program(self) -> Program:
        """All tasks of the row, and the end of the step."""
        if self.shared.differentiates:
            self.out += [Zero((a,)) for a in self._accumulators()]
        for task in self.source.table.order(self.rank):
            self._task(task)
        tail = Tail(self.shared, self.rank, self.stages, self.buffers)
        tail.write(self.out)
        return Program(
            self.rank, tuple(self.out), tuple(s.index for s in self.stages), self._inputs(tail), tail.outputs
        )

    def _accumulators(self) -> list[str]:
        return [f"acc.{leaf}.{k}" for s in self.stages for leaf, found in s.terms.items() for k, _ in found]

    def _task(self, task: Task) -> None:
        stage = self.source.stages[task.stage]
        region = self._region(stage, task)
        if region is None:
            return
        self._slices(task.microbatch)
        reads = tuple(self._bind(name, task, stage) for name in region.inputs)
        writes = tuple(f"{v}@{task.microbatch}" for v in region.outputs)
        self.out.append(Run(region.name, task.microbatch, reads, writes))
        if task.kind == "F":
            self._keep_buffers(stage, task.microbatch)
        else:
            self._accumulate(stage, task.microbatch)
        self._send(region, task)

    def _region(self, stage: Stage, task: Task) -> Region | None:
        if task.kind not in ("F", "B"):
            raise ProgramError(
                f"{task} asks for a backward split into I and W, which is not lowered yet: use a schedule with whole "
                "backwards (1f1b, gpipe)."
            )
        return stage.F if task.kind == "F" else stage.B

    def _slices(self, index: int) -> None:
        leaves = tuple(n for n in self.source.traced.batch if self._reads_batch(n))
        if leaves and f"batch.{leaves[0]}@{index}" not in self.present:
            self.out.append(Microbatch(index, leaves))
            self.present.update(f"batch.{n}@{index}" for n in leaves)

    def _reads_batch(self, leaf: str) -> bool:
        return any(f"batch.{leaf}" in r.inputs for s in self.stages for r in s.regions)

    def _bind(self, name: str, task: Task, stage: Stage) -> str:
        """The program's name for a region's input; a value of another rank is received first."""
        kind, _, leaf = name.partition(".")
        if kind == "batch":
            return f"{name}@{task.microbatch}"
        if kind == "buffer" and leaf:
            key = (stage.index, task.microbatch, leaf)
            if task.kind == "F":
                self.versions[key] = self.buffers.get((stage.index, leaf), name)
            return self.versions.get(key, self.buffers.get((stage.index, leaf), name))
        if name not in self.shared.makers:
            return name
        value = f"{name}@{task.microbatch}"
        self._receive(value, self.shared.placement(self.shared.makers[name]), task)
        return value

    def _receive(self, value: str, src: int, task: Task) -> None:
        if src == self.rank or value in self.present:
            return
        label = f"{src}->{self.rank} mb {task.microbatch}"
        message = self.shared.message(value, src, self.rank, label)
        self.out += [PostRecv(message), WaitRecv(message, value)]
        self.present.add(value)

    def _send(self, region: Region, task: Task) -> None:
        for name in region.outputs:
            for dst in self.shared.readers.get(name, ()):
                if dst != self.rank:
                    value = f"{name}@{task.microbatch}"
                    label = f"{self.rank}->{dst} mb {task.microbatch}"
                    self.out.append(Send(self.shared.message(value, self.rank, dst, label), value))

    def _keep_buffers(self, stage: Stage, index: int) -> None:
        for name, value in stage.results.items():
            kind, _, leaf = name.partition(".")
            if kind == "buffer":
                self.buffers[(stage.index, leaf)] = f"{value}@{index}"

    def _accumulate(self, stage: Stage, index: int) -> None:
        pairs = [(f"acc.{leaf}.{k}", f"{v}@{index}") for leaf, found in stage.terms.items() for k, v in found]
        if pairs:
            accumulators, values = zip(*pairs, strict=True)
            self.out.append(Accumulate(accumulators, values))

    def _inputs(self, tail: Tail) -> tuple[str, ...]:
        """What must be there when the step begins, in the order: state, batch, constants."""
        read = {v for i in self.out for v in i.reads}
        regions = [r for s in self.stages for r in s.regions]
        held = {n for r in regions for n in r.inputs} | read
        state = [f"bucket.{b.name}" for s in self.stages for b in self.shared.layout.of_stage(s.index)]
        state += [f"slot.{p}.{b}" for b, paths in tail.slots.items() for p in paths]
        mine = {s.index for s in self.stages}
        state += [f"leaf.{n}" for n, holders in self.shared.layout.loose.items() if self._holds_loose(n, mine, holders)]
        rest = [f"{kind}.{n}" for kind, part in self._leaves().items() for n in part if f"{kind}.{n}" in held]
        return (*state, "step", *rest)

    def _leaves(self) -> dict[str, list[str]]:
        traced = self.source.traced
        return {"buffer": list(traced.buffers), "batch": list(traced.batch), "const": list(traced.consts)}

    def _holds_loose(self, leaf: str, mine: set[int], holders: tuple[int, ...]) -> bool:
        """Whether this rank has a copy of a leaf outside the buckets: not if the leaf's bucket is here too."""
        home = self.shared.layout.home(leaf)
        return bool(mine & set(holders)) and not (home is not None and home[0].stage in mine)
