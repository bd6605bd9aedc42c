"""The program of one rank: its row of the schedule, task by task, and the end of the step."""

from funpipe.programs.binding import Binding
from funpipe.programs.instructions import (
    Accumulate,
    Cast,
    Instruction,
    Keys,
    Microbatch,
    Overlap,
    PostRecv,
    Run,
    Send,
    WaitRecv,
    Zero,
)
from funpipe.programs.keys import is_key
from funpipe.programs.layout import cast_name
from funpipe.programs.program import Program
from funpipe.programs.shared import Shared
from funpipe.programs.tail import Tail
from funpipe.schedules import Overlap as Pair
from funpipe.schedules import Task
from funpipe.stages.stage import Kind, Region, Stage


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
        self.places = {(s.index, kind): _places(s, kind) for s in self.stages for kind in ("B", "W")}
        self.reads = {name for r in regions for name in r.inputs}
        self.leaves = tuple(n for n in self.source.outline.batch if f"batch.{n}" in self.reads)
        self.out: list[Instruction] = []
        self.present: set[str] = set()
        self.buffers: dict[tuple[int, str], str] = {}
        self.versions: dict[tuple[int, int, str], str] = {}

    def program(self) -> Program:
        """All tasks of the row, and the end of the step."""
        self._casts()
        if any(map(is_key, self.reads)):
            self.out.append(Keys(self.source.outline.keys))
        if self.shared.differentiates:
            self.out += [Zero((a,)) for a in self._accumulators()]
        for task in self.source.table.order(self.rank):
            self._task(task)
        tail = Tail(self.shared, self.rank, self.stages, self.buffers)
        tail.write(self.out)
        return Program(
            self.rank, tuple(self.out), tuple(s.index for s in self.stages), self._inputs(tail), tail.outputs
        )

    def _casts(self) -> None:
        """Once a step, parameters in the dtype that regions read: of a bucket all at once."""
        layout = self.shared.layout
        for bucket in (b for s in self.stages for b in layout.held_by(s.index)):
            flat = dict.fromkeys(layout.casts[s.leaf] for s in bucket.slots if s.leaf in layout.casts)
            self.out += [Cast(f"bucket.{bucket.name}", cast_name(dtype, bucket.name)) for dtype in flat]
        loose = [n for n in layout.loose_on({s.index for s in self.stages}) if n in layout.casts]
        self.out += [Cast(f"leaf.{n}", f"param.{n}") for n in loose if f"param.{n}" in self.reads]

    def _accumulators(self) -> list[str]:
        return [accumulator for s in self.stages for accumulator in self.places[s.index, "B"][0]]

    def _task(self, cell: Task | Pair) -> None:
        """One cell of the row: a task that has work, or two at once; the messages of both go before and behind."""
        tasks = [t for t in (cell if isinstance(cell, Pair) else (cell,)) if self._region(t) is not None]
        bindings = [self.bindings[f"{t.kind}{t.stage}"] for t in tasks]
        for task, binding in zip(tasks, bindings, strict=True):
            self._slices(task.microbatch)
            self._receive(binding, task)
        runs = [self._run(task, binding) for task, binding in zip(tasks, bindings, strict=True)]
        self.out += [Overlap(*runs)] if len(runs) == 2 else runs
        for task in tasks:
            self._keep(task)
        for task, binding in zip(tasks, bindings, strict=True):
            self._send(binding, task)

    def _region(self, task: Task) -> Region | None:
        return self.source.stages[task.stage].region(task.kind)

    def _run(self, task: Task, binding: Binding) -> Run:
        stage = self.source.stages[task.stage]
        reads = binding.reads(task.microbatch, lambda name: self._version(name, task, stage))
        return Run(f"{task.kind}{task.stage}", task.microbatch, reads, binding.writes(task.microbatch))

    def _keep(self, task: Task) -> None:
        """What a task leaves for later ones of its stage: the new buffers, or the gradients added up."""
        if task.kind == "F":
            self._keep_buffers(self.source.stages[task.stage], task.microbatch)
        elif task.kind in ("B", "W"):
            self._accumulate(task)

    def _slices(self, index: int) -> None:
        if self.source.form.split_batch and self.leaves and f"batch.{self.leaves[0]}@{index}" not in self.present:
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

    def _accumulate(self, task: Task) -> None:
        accumulators, values = self.places[task.stage, task.kind]
        if accumulators:
            self.out.append(Accumulate(accumulators, tuple([f"{value}@{task.microbatch}" for value in values])))

    def _inputs(self, tail: Tail) -> tuple[str, ...]:
        """What must be there when the step begins, in the order: state, batch, constants."""
        held = self.reads | {v for i in self.out for v in i.reads} | self._written(tail)
        state = [f"bucket.{b.name}" for s in self.stages for b in self.shared.layout.held_by(s.index)]
        state += [f"slot.{p}.{b}" for b, paths in tail.slots.items() for p in paths]
        state += [f"leaf.{n}" for n in self.shared.layout.loose_on({s.index for s in self.stages})]
        rest = [f"{kind}.{n}" for kind, part in self._leaves().items() for n in part if f"{kind}.{n}" in held]
        scale = [n for n in ("scale.value", "scale.good") if n in held]
        keyed = ["key"] * (self.source.keyed or "key" in held)
        return (*state, "step", *keyed, *scale, *rest, *["replica"] * ("replica" in held))

    def _written(self, tail: Tail) -> set[str]:
        """The buffers that live here because they are updated here, read or not; an evaluation keeps none."""
        return {n for n in tail.outputs if n.startswith("buffer.")} if self.shared.differentiates else set()

    def _leaves(self) -> dict[str, list[str]]:
        outline = self.source.outline
        batch = list(outline.batch)
        if not self.source.form.split_batch:
            batch = [f"{n}@{i}" for n in batch for i in range(self.source.table.num_microbatches)]
        return {"buffer": list(outline.buffers), "batch": batch, "const": list(outline.consts)}


def _places(stage: Stage, kind: Kind) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The accumulators of a stage, and the value that each takes of every microbatch from a B or a W."""
    places = [(f"acc.{leaf}.{k}", value) for leaf, found in stage.terms_in(kind).items() for k, value in found]
    return tuple(name for name, _ in places), tuple(value for _, value in places)
