"""Writes one rank's program as a graph, instruction by instruction."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import ProgramError
from funpipe.graphs.from_fx import from_fx
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Ref
from funpipe.optim import Optimizer
from funpipe.programs.communication_node import all_reduce_node, message_node
from funpipe.programs.graph_builder import GraphBuilder
from funpipe.programs.instructions import (
    AllReduce,
    Free,
    Instruction,
    PostRecv,
    Run,
    Send,
    Update,
    WaitRecv,
    WaitSend,
    Zero,
    runs_of,
)
from funpipe.programs.keys import is_key, offset_of
from funpipe.programs.local_graph import local_graph, traced_graph
from funpipe.programs.program import Programs
from funpipe.programs.update_around import cast_gradient, keep_old
from funpipe.programs.update_node import update_node
from funpipe.tracing.fake import contiguous

_STATE = ("bucket", "slot", "leaf", "step", "key", "scale", "buffer")
"""The kinds of a program's inputs that are state."""

_AXES = {"replica": "axis.dp"}
"""What says where a rank is, as graphs call it."""


class GraphWriter:
    """Writes one rank's program.

    Args:
        programs: of all ranks.
        rank: which.
        optimizer: what they were lowered with.
        consts: tensors that the loss function closes over, by name.
        updates: `"node"` or `"expanded"`.
    """

    def __init__(
        self, programs: Programs, rank: int, optimizer: Optimizer | None, consts: Mapping[str, Tensor], updates: str
    ) -> None:
        self.programs, self.program = programs, programs.programs[rank]
        self.optimizer, self.updates = optimizer, updates
        self.out = GraphBuilder(programs.objects)
        self.regions: dict[str, Graph] = {}
        for name in dict.fromkeys((*self.program.inputs, *self._batch())):
            self._input(name, consts)

    def _batch(self) -> list[str]:
        """All leaves of the batch: a rank is given them whether it reads them or not."""
        return [f"batch.{n}" for n in self.programs.batch_dims if f"batch.{n}" in self.programs.types]

    def _input(self, name: str, consts: Mapping[str, Tensor]) -> None:
        kind, _, leaf = name.partition(".")
        key = f"state.{name}" if kind in _STATE else _AXES.get(name, name)
        self.out.input(key, self.programs.types[name], name)
        if kind == "const":
            if leaf not in consts:
                raise ProgramError(f"the program reads the constant {leaf!r}: pass consts=traced.consts.")
            self.out.constants[key] = consts[leaf]

    def written(self) -> Graph:
        """The graph."""
        for instruction in _with_joined_zeros(self.program.instructions):
            self._write(instruction)
        state = {f"state.{n}": self._new(n) for n in self.program.inputs if n.partition(".")[0] in _STATE}
        if self.optimizer is not None:
            state["state.step"] = self._counted()
        results = {n: value for n, value in self.program.outputs.items() if not n.startswith("buffer.")}
        graph = self.out.graph(state | {f"aux.{n}": self.out.values[value] for n, value in results.items()})
        return graph.replace(pipelined=self.programs.mesh.pp > 1)

    def _new(self, name: str) -> str:
        """What a value of the state is at the end of the step."""
        return self.out.values[self.program.outputs.get(name, name)]

    def _counted(self) -> str:
        if "result.skipped" in self.out.values:
            return self._local_call("next_step", ("step", "result.skipped"), _counted_unless)
        add: Any = torch.ops.aten.add.Tensor
        step = self.out.values["step"]
        return self.out.call(add, (Ref(step), 1), self.out.type_of(step), "next_step", "")

    def _write(self, instruction: Instruction) -> None:
        runs = runs_of(instruction)
        if runs:
            for run in runs:
                self._run(run)
        elif isinstance(instruction, AllReduce):
            all_reduce_node(self.out, instruction)
        elif isinstance(instruction, Send | WaitSend | PostRecv | WaitRecv):
            value = "" if isinstance(instruction, PostRecv | WaitRecv) else self._value(instruction.value)
            message_node(self.out, self.programs, instruction, value)
        elif isinstance(instruction, Update) and self.updates == "node" and not self._is_whole(instruction):
            old = cast_gradient(self.out, instruction)
            update_node(self.out, self.programs, instruction, self.optimizer)
            keep_old(self.out, instruction, old)
        elif not isinstance(instruction, Free):
            self._local(instruction)

    def _is_whole(self, update: Update) -> bool:
        """Whether an update is no operator: that is one of leaves which may be parted, and have no names."""
        named = self.optimizer is not None and self.optimizer.is_named
        return self.programs.layout.bucket(update.bucket).scope == "tree" or named

    def _run(self, run: Run) -> None:
        """The operators of a region; a node is called as in the region, with its microbatch behind it."""
        if run.region not in self.regions:
            self.regions[run.region] = from_fx(self.programs.regions[run.region].module.graph)
        given = [self._value(name) for name in run.reads]
        made = self.out.join(self.regions[run.region], given, f"_mb{run.microbatch}", run.region)
        self.out.values.update(zip(run.writes, made, strict=True))

    def _value(self, name: str) -> str:
        """A value by its name in the program; a parameter is a view of its bucket."""
        if name in self.out.values:
            return self.out.values[name]
        if is_key(name):
            return self._key(name)
        leaf = name.partition(".")[2]
        base = self.programs.layout.base(name)
        if base is None or base[0] not in self.out.values:
            return self.out.values[f"leaf.{leaf}"]
        return self._view(base[0], name)

    def _key(self, name: str) -> str:
        """A key as a view of all of them."""
        as_strided: Any = torch.ops.aten.as_strided.default
        args = (Ref(self.out.values["keys"]), [], [], offset_of(self.programs.keys, name))
        called = name.replace(".", "_").replace("@", "_mb")
        self.out.values[name] = self.out.call(as_strided, args, self.programs.types[name], called, "")
        return self.out.values[name]

    def _view(self, flat: str, name: str) -> str:
        """A leaf in the bucket as it is now: a view for each version of the bucket."""
        base, leaf = self.out.values[flat], name.partition(".")[2]
        key = f"view {base} {leaf}"
        if key not in self.out.values:
            home = self.programs.layout.home(leaf)
            assert home is not None
            kind = contiguous(self.programs.types[name])
            as_strided: Any = torch.ops.aten.as_strided.default
            args = (Ref(base), list(kind.shape), list(kind.stride), home[1].offset)
            self.out.values[key] = self.out.call(as_strided, args, kind, f"param_{leaf.replace('.', '_')}", "")
        return self.out.values[key]

    def _local_call(self, name: str, reads: tuple[str, ...], function: Callable[..., Tensor]) -> str:
        """A value that is computed from others of the program by a function of tensors."""
        types = {n: self.out.type_of(self.out.values[n]) for n in reads}
        piece = traced_graph(lambda given: {name: function(*given.values())}, types)
        return self.out.join(piece, [self.out.values[n] for n in reads], origin=name)[0]

    def _local(self, instruction: Instruction) -> None:
        values = {name: self._value(name) for name in instruction.reads}
        types = {name: self.out.type_of(value) for name, value in values.items()}
        piece = local_graph(self.programs, instruction, types, self.optimizer)
        made = self.out.join(piece, list(values.values()), origin=_origin(instruction))
        self.out.values.update(zip(piece.outputs, made, strict=True))


def _counted_unless(step: Tensor, skipped: Tensor) -> Tensor:
    return step + (~skipped).to(step.device)


def _with_joined_zeros(instructions: Iterable[Instruction]) -> Iterator[Instruction]:
    """Accumulators that are made one behind the other are made by one instruction: tracing each would take a while."""
    for is_zero, group in groupby(instructions, lambda i: isinstance(i, Zero)):
        if is_zero:
            yield Zero(tuple(name for zero in group for name in zero.writes))
        else:
            yield from group


def _origin(instruction: Instruction) -> str:
    """What a traced operator belongs to."""
    what = next((getattr(instruction, f) for f in ("bucket", "value", "out", "leaf") if hasattr(instruction, f)), "")
    return f"{type(instruction).__name__.lower()} {what}".strip()
