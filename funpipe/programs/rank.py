"""The program of one rank: its row of the schedule, task by task, and the end of the step."""

from funpipe._errors import ProgramError
from funpipe.programs.binding import Binding
from funpipe.programs.instructions import Accumulate, Instruction, Microbatch, PostRecv, Run, Send, WaitRecv, Zero
from funpipe.programs.program import Program
from funpipe.programs.shared import Shared
from funpipe.programs.tail import Tail
from funpipe.schedules import Task
from funpipe.stages.stage import Region, Stage


class Rank:
    """Writes the program of one rank.

    Args:
        shared: what all ranks share.
        rank: the rank.
    """

    def __init__(self, shared: Shared, rank: int) -> None:
        self.shared, self.rank = shared, rank
        self.source = shared.source
        self.stages = tuple(s for s in self.source.stages if shared.placement(s.index) == rank)
        regions = [r for s in self.stages for r in shared.regions_of(s)]
        self.bindings = {r.name: Binding(shared, r, rank) for r in regions}
        self.places = {s.index: _places(s) for s in self.stages}
        self.reads = {name for r in regions for name in r.inputs}
        self.leaves = tuple(n for n in self.source.traced.batch if f"batch.{n}" in self.reads)
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
        return [accumulator for s in self.stages for accumulator in self.places[s.index][0]]

    def _task(self, task: Task) -> None:
        stage = self.source.stages[task.stage]
        region = self._region(stage, task)
        if region is None:
            return
        binding = self.bindings[region.name]
        self._slices(task.microbatch)
        self._receive(binding, task)
        reads = binding.reads(task.microbatch, lambda name: self._version(name, task, stage))
        self.out.append(Run(region.name, task.microbatch, reads, binding.writes(task.microbatch)))
        if task.kind == "F":
            self._keep_buffers(stage, task.microbatch)
        else:
            self._accumulate(stage, task.microbatch)
        self._send(binding, task)

    def _region(self, stage: Stage, task: Task) -> Region | None:
        if task.kind not in ("F", "B"):
            raise ProgramError(
                f"{task} asks for a backward split into I and W, which is not lowered yet: use a schedule with whole "
                "backwards (1f1b, gpipe)."
            )
        return stage.F if task.kind == "F" else stage.B

    def _slices(self, index: int) -> None:
        if self.leaves and f"batch.{self.leaves[0]}@{index}" not in self.present:
            self.out.append(Microbatch(index, self.leaves))
            self.present.update(f"batch.{n}@{index}" for n in self.leaves)

    def _version(self, name: str, task: Task, stage: Stage) -> str:
        """The value of a buffer that a task reads: the last one for a forward, the forward's own for its backward."""
        leaf = name.removeprefix("buffer.")
        key = (stage.index, task.microbatch, leaf)
        if task.kind == "F":
            self.versions[key] = self.buffers.get((stage.index, leaf), name)
        return self.versions.get(key, self.buffers.get((stage.index, leaf), name))

    def _receive(self, binding: Binding, task: Task) -> None:
        """Receives what another rank makes and no task has received before."""
        for name, src in binding.received:
            value = f"{name}@{task.microbatch}"
            if value not in self.present:
                label = f"{src}->{self.rank} mb {task.microbatch}"
                message = self.shared.message(value, src, self.rank, label, needed_by=str(task))
                self.out += [PostRecv(message), WaitRecv(message, value)]
                self.present.add(value)

    def _send(self, binding: Binding, task: Task) -> None:
        for name, dst in binding.sent:
            value = f"{name}@{task.microbatch}"
            label = f"{self.rank}->{dst} mb {task.microbatch}"
            message = self.shared.message(value, self.rank, dst, label, made_by=str(task))
            self.out.append(Send(message, value))

    def _keep_buffers(self, stage: Stage, index: int) -> None:
        for name, value in stage.results.items():
            kind, _, leaf = name.partition(".")
            if kind == "buffer":
                self.buffers[(stage.index, leaf)] = f"{value}@{index}"

    def _accumulate(self, stage: Stage, index: int) -> None:
        accumulators, values = self.places[stage.index]
        if accumulators:
            self.out.append(Accumulate(accumulators, tuple([f"{value}@{index}" for value in values])))

    def _inputs(self, tail: Tail) -> tuple[str, ...]:
        """What must be there when the step begins, in the order: state, batch, constants."""
        held = self.reads | {v for i in self.out for v in i.reads} | self._written(tail)
        state = [f"bucket.{b.name}" for s in self.stages for b in self.shared.layout.of_stage(s.index)]
        state += [f"slot.{p}.{b}" for b, paths in tail.slots.items() for p in paths]
        mine = {s.index for s in self.stages}
        state += [f"leaf.{n}" for n, holders in self.shared.layout.loose.items() if self._holds_loose(n, mine, holders)]
        rest = [f"{kind}.{n}" for kind, part in self._leaves().items() for n in part if f"{kind}.{n}" in held]
        return (*state, "step", *rest)

    def _written(self, tail: Tail) -> set[str]:
        """The buffers that live here because they are updated here, read or not; an evaluation keeps none."""
        return {n for n in tail.outputs if n.startswith("buffer.")} if self.shared.differentiates else set()

    def _leaves(self) -> dict[str, list[str]]:
        traced = self.source.traced
        return {"buffer": list(traced.buffers), "batch": list(traced.batch), "const": list(traced.consts)}

    def _holds_loose(self, leaf: str, mine: set[int], holders: tuple[int, ...]) -> bool:
        """Whether this rank has a copy of a leaf outside the buckets: not if the leaf's bucket is here too."""
        home = self.shared.layout.home(leaf)
        return bool(mine & set(holders)) and not (home is not None and home[0].stage in mine)


def _places(stage: Stage) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The accumulators of a stage, and the value that each takes of every microbatch."""
    places = [(f"acc.{leaf}.{k}", value) for leaf, found in stage.terms.items() for k, value in found]
    return tuple(name for name, _ in places), tuple(value for _, value in places)
