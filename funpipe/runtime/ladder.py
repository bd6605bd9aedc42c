"""The ladder from a loss function to a step that runs: traced, lowered, compiled; each rung is a value and prints."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from funpipe._errors import CompileError
from funpipe._typing import Tree
from funpipe.backends import Executable
from funpipe.backends.compiled import CudaGraph
from funpipe.backends.sizes import Sizes
from funpipe.backends.transport import Transport
from funpipe.passes import default_passes, optimize
from funpipe.programs.layout import Layout
from funpipe.programs.lower import lower
from funpipe.programs.program import Program, Programs
from funpipe.programs.verify import verify
from funpipe.runtime.everywhere import Job, compile_everywhere
from funpipe.runtime.feed import Feed
from funpipe.runtime.metrics import Metrics, Results
from funpipe.runtime.profiling.profile import Profile
from funpipe.runtime.setup import Setup
from funpipe.runtime.state import State
from funpipe.schedules import Table, forward_only
from funpipe.stages import Cutter, Stage, partition, rematerialise
from funpipe.stages import resolve as resolve_stages
from funpipe.stages.costs import bytes_of, flops_of
from funpipe.tracing.traced import Traced


@dataclass(frozen=True, eq=False)
class TracedStep:
    """The joint graph of one microbatch, ready to be cut and scheduled.

    Args:
        setup: the step's arguments.
        traced: the graph.
        batch_dims: the dimension along which each batch leaf is split.
        device: where the state lives.
        transport: to the other ranks, or None.
        cutter, table, layout: how to cut, the schedule, and where the parameters live already, in place of what the
            setup says; for evaluations, and for batches of another size.
        keyed: whether the state has a key.
    """

    setup: Setup
    traced: Traced
    batch_dims: dict[str, int | None]
    device: torch.device
    transport: Transport | None = None
    cutter: Cutter | None = None
    table: Table | None = None
    layout: Layout | None = None
    keyed: bool = False

    def as_text(self) -> str:
        """The graph with module paths and source lines."""
        return self.traced.as_text()

    def lower(self) -> "LoweredStep":
        """Cuts and rematerialises the graph, makes the schedule's table and all ranks' programs, and verifies them.

        Returns:
            The programs.

        Raises:
            StageError, ScheduleError, MeshError, ProgramError: the parts do not fit.
        """
        setup = self.setup
        cutter = self.cutter or resolve_stages(setup.stages, self.traced, setup.num_stages())
        cuts = cutter(self.traced)
        stages = rematerialise(partition(self.traced, cuts), setup.remat)
        table = self.table or self._table(len(stages))
        programs = lower(
            self.traced,
            stages,
            table,
            mesh=setup.shape,
            optimizer=setup.optimizer,
            batch_dims=self.batch_dims,
            mean_buffers=setup.buffers == "mean",
            layout=self.layout,
            keyed=self.keyed,
        )
        programs = optimize(programs, (*default_passes, *setup.passes))
        return LoweredStep(self, stages, table, programs, cuts)

    def _table(self, num_stages: int) -> Table:
        """The schedule's table; its forwards alone for a graph that has no backward."""
        table = self.setup.table(num_stages)
        return table if self.traced.gradients else forward_only(table)


@dataclass(frozen=True, eq=False)
class LoweredStep:
    """The verified programs of all ranks.

    Args:
        origin: the rung before.
        stages: the partition.
        schedule: the table.
        all: the programs with what they refer to.
        cuts: where the forward was cut.
    """

    origin: TracedStep
    stages: tuple[Stage, ...]
    schedule: Table
    all: Programs
    cuts: tuple[int, ...]

    @property
    def programs(self) -> tuple[Program, ...]:
        """Each pipeline rank's program."""
        return self.all.programs

    def as_text(self) -> str:
        """The schedule's grid, then each rank's instructions."""
        return f"{self.schedule.as_text()}\n\n{self.all.as_text()}"

    @cached_property
    def signature(self) -> str:
        """What a state must share with this step; it grows with the leaves, so it is written once."""
        return _signature(self.all, self.origin.setup)

    def memory_analysis(self) -> tuple[int, ...]:
        """The peak of the bytes that values take, for each pipeline rank, as the verifier computes it."""
        return tuple(verify(self.all).peak_memory)

    def cost_analysis(self) -> list[dict[str, float]]:
        """For each stage: floating-point operations and bytes moved, of its forward and backward, one microbatch."""
        return [
            {
                f"{r.kind}.{what}": float(sum(count(n) for n in _operations(r)))
                for r in s.regions
                for what, count in _COUNTS
            }
            for s in self.stages
        ]

    def compile(self, sizes: Sizes | None = None) -> "CompiledStep":
        """Compiles this rank's program ahead of time; all ranks call it, and all of them wait for the slowest.

        Nothing is communicated but a check that all planned the same before, and whether all were compiled after: what
        each rank then sends, another is there to receive. The mesh's `timeout` is how long a rank waits.

        Returns:
            The compiled step.

        Raises:
            MeshError: the ranks planned different steps.
            CompileError: torch cannot compile the step, on this rank or on another.
        """
        setup, origin = self.origin.setup, self.origin
        job = Job(
            self.all,
            setup.rank,
            setup.backend,
            setup.optimizer,
            fuse=setup.numerics == "fast",
            cuda_graph=_cuda_graph(setup, origin.traced.opaque),
            mesh=setup.mesh,
            transport=origin.transport,
            device=origin.device,
            sizes=sizes,
        )
        return CompiledStep(self, compile_everywhere(job))


def _cuda_graph(setup: Setup, opaque: tuple[str, ...]) -> CudaGraph:
    """Whether the step may become a CUDA graph: Python that is called in it would not run when that is replayed."""
    if opaque and setup.cuda_graph is True:
        raise CompileError(
            f"cuda_graph=True, but the module {opaque[0] or 'itself'!r} could not be traced and is called in Python: "
            "leave cuda_graph='auto', which makes graphs where it can."
        )
    return False if opaque else setup.cuda_graph


def _signature(programs: Programs, setup: Setup) -> str:
    """What a state must share with a step: where each leaf lives, the optimizer, the rank."""
    buckets = [f"{b.name}: {s.leaf} at {s.offset} shape {s.shape}" for b in programs.layout.buckets for s in b.slots]
    loose = [f"loose {n} {programs.types[f'leaf.{n}']} on stages {on}" for n, on in programs.layout.loose.items()]
    held = [f"{n} {kind}" for n, kind in programs.types.items() if n.startswith("buffer.")]
    scale = [f"scale {setup.precision.scale}"] if setup.precision and setup.precision.scale else []
    made_for = [f"optimizer {setup.optimizer}", *scale, f"mesh {setup.shape} rank {setup.rank}"]
    return "\n".join([*made_for, *buckets, *loose, *held])


_COUNTS = (("flops", flops_of), ("bytes", bytes_of))


def _operations(region: object) -> list[torch.fx.Node]:
    return [n for n in region.module.graph.nodes if n.op == "call_function"]  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class CompiledStep:
    """A rank's step, ready to run.

    Args:
        lowered: the rung before.
        executable: what the backend made of it.
    """

    lowered: LoweredStep
    executable: Executable

    @cached_property
    def results(self) -> Results:
        """What the step returns, and which rank makes it."""
        return Results.of(self.lowered.all)

    @cached_property
    def feed(self) -> Feed:
        """How the step's inputs are taken from a state and a batch."""
        mesh, traced = self.lowered.origin.setup.mesh, self.lowered.origin.traced
        return Feed(self.program.inputs, self.lowered.all.types, traced.consts, mesh.dp_rank if mesh else 0)

    @property
    def program(self) -> Program:
        """This rank's program."""
        return self.lowered.programs[self.lowered.origin.setup.rank]

    def as_text(self) -> str:
        """What runs on this rank: the graphs that the step calls, the kernels of each, and its source."""
        return self.executable.as_text()

    def with_executable(self, executable: Executable) -> "CompiledStep":
        """The same step, run by something else.

        Args:
            executable: of the same program.
        """
        made = replace(self, executable=executable)
        vars(made).update(results=self.results, feed=self.feed)
        return made

    def profile(self, state: State, batch: Tree) -> tuple[State, Metrics, Profile]:
        """Runs one real step and times each of its instructions; every rank calls it alike.

        Args:
            state: consumed, as by a step.
            batch: this replica's, of the sizes that were compiled.

        Returns:
            The state and metrics that the step returns, to the bit, and the profile of all ranks.

        Raises:
            FunpipeError: `numerics="fast"` makes one function of the step, whose parts cannot be timed.
            StateError, BatchError: as for a step.
        """
        from funpipe.runtime.profiling.measure import engine_of, measure

        return measure(engine_of(self, batch), state, batch)
