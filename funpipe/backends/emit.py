"""A rank's program as the source of one Python function, which is then compiled whole.

Regions become calls of nested regions, communication becomes operators on a token, and the local instructions between
them graphs that are inlined. State is overwritten in place as soon as its new value exists; results are returned.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby


from torch import fx

from funpipe._typing import TensorType
from funpipe.backends.blocks import SCALARS, Block, block, scalars_block
from funpipe.backends.kernels import Kernel, kernel
from funpipe.optim import Optimizer
from funpipe.programs.instructions import (
    Accumulate,
    AllReduce,
    Free,
    Instruction,
    Microbatch,
    PostRecv,
    Run,
    Send,
    Update,
    WaitRecv,
    WaitSend,
    Zero,
)
from funpipe.programs.program import Program, Programs

_OWN_LINE = (Microbatch, Run, Send, WaitSend, PostRecv, WaitRecv, AllReduce, Zero)
"""Instructions that are not part of a block."""


@dataclass(frozen=True, eq=False)
class Emitted:
    """The source of a step and what it refers to.

    Args:
        source: of `def step(token, …inputs…)`.
        regions: graphs that are compiled once and called, by the name that the source uses.
        inlined: graphs that become part of the function.
        inputs: names of the arguments after the token, in order.
        outputs: names of what is returned, in order.
    """

    source: str
    regions: dict[str, fx.GraphModule]
    inlined: dict[str, fx.GraphModule]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def emit(programs: Programs, rank: int, optimizer: Optimizer | None, transport: int) -> Emitted:
    """Writes the step function of one rank.

    Args:
        programs: all ranks' programs.
        rank: whose.
        optimizer: for its updates.
        transport: the handle that the communication operators pass on.

    Returns:
        The source and its graphs.
    """
    return _Emitter(programs, programs.programs[rank], optimizer, transport).emit()


@dataclass
class _Emitter:
    programs: Programs
    program: Program
    optimizer: Optimizer | None
    transport: int
    lines: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    regions: dict[str, fx.GraphModule] = field(default_factory=dict)
    inlined: dict[str, fx.GraphModule] = field(default_factory=dict)
    count: int = 0

    def emit(self) -> Emitted:
        """The whole function."""
        self.last_read = _last_reads(self.program)
        self.held = frozenset(n.removeprefix("bucket.") for n in self.program.inputs if n.startswith("bucket."))
        arguments = [self._new(name) for name in self.program.inputs]
        if any(isinstance(i, Update) for i in self.program.instructions):
            self._scalars()
        self._body()
        if any(isinstance(i, Update) for i in self.program.instructions):
            self.lines.append(f"{self.variables['step']}.add_(1)")
        returned = "".join(f"{self.variables[value]}, " for value in self.program.outputs.values())
        head = f"def step(token, {', '.join(arguments)}):"
        source = "\n    ".join([head, *self.lines, f"return ({returned})"]) + "\n"
        return Emitted(source, self.regions, self.inlined, self.program.inputs, tuple(self.program.outputs))

    def _body(self) -> None:
        numbered = list(enumerate(self._joined()))
        for own, group in groupby(numbered, lambda item: isinstance(item[1][1][0], _OWN_LINE)):
            if own:
                for _, (_, instructions) in group:
                    self._line(instructions)
            else:
                self._block([i for _, (_, instructions) in group for i in instructions])

    def _joined(self) -> Iterable[tuple[int, list[Instruction]]]:
        """Instructions with an `Accumulate` joined to the run whose values it adds."""
        waiting = list(enumerate(self.program.instructions))
        position = 0
        while position < len(waiting):
            index, instruction = waiting[position]
            following = waiting[position + 1][1] if position + 1 < len(waiting) else None
            joined = isinstance(instruction, Run) and isinstance(following, Accumulate)
            if joined and set(following.values) <= set(instruction.writes):  # type: ignore[union-attr]
                yield index, [instruction, following]  # type: ignore[list-item]
                position += 2
            else:
                yield index, [instruction]
                position += 1

    def _line(self, instructions: list[Instruction]) -> None:
        match instructions[0]:
            case Run() as run:
                self._run(run, instructions[1] if len(instructions) > 1 else None)  # type: ignore[arg-type]
            case Microbatch() as microbatch:
                self._slice(microbatch)
            case Zero() as zero:
                self._zero(zero)
            case Send(message, value):
                self._op("send", self.variables[value], message)
            case WaitSend(message, value):
                self._op("wait_send", self.variables[value], message)
            case PostRecv(message):
                self._op("post_recv", None, message)
            case WaitRecv(message, value):
                kind = self.programs.messages[message].type
                self.lines.append(f"{self._new(value)} = ops.wait_recv(token, {self.transport}, {message}, {_made(kind)})")
            case AllReduce(value, group):
                self.lines.append(f"ops.all_reduce({self.variables[value]}, token, {self.transport}, {group!r})")
            case other:
                raise TypeError(f"{other} has no line of its own.")

    def _op(self, name: str, value: str | None, message: int) -> None:
        self.lines.append(f"ops.{name}({f'{value}, ' if value else ''}token, {self.transport}, {message})")

    def _new(self, name: str) -> str:
        self.variables[name] = f"v{self.count}"
        self.count += 1
        return self.variables[name]

    def _slice(self, instruction: Microbatch) -> None:
        for leaf, name in zip(instruction.leaves, instruction.writes, strict=True):
            dim, source = self.programs.batch_dims[leaf], self.variables[f"batch.{leaf}"]
            if dim is None:
                self.variables[name] = source
                continue
            size = self.programs.types[name].shape[dim]
            rows = f"{source}.narrow({dim}, {instruction.index * size}, {size})"
            self.lines.append(f"{self._new(name)} = {rows}{'.contiguous()' if dim else ''}")

    def _zero(self, instruction: Zero) -> None:
        for name in instruction.writes:
            kind = self.programs.types[name]
            made = f"torch.zeros({list(kind.shape)}, dtype={kind.dtype}, device={kind.device!r})"
            self.lines.append(f"{self._new(name)} = {made}")

    def _run(self, run: Run, accumulate: Accumulate | None) -> None:
        pairs = _pairs(run, accumulate)
        made = self._kernel(run, pairs)
        bound = dict(zip(self.programs.regions[run.region].inputs, run.reads, strict=True))
        arguments = ", ".join(self.variables[bound.get(n, n)] for n in made.inputs)
        written = dict(zip(self.programs.regions[run.region].outputs, run.writes, strict=True))
        results = "".join(f"{self._new(written.get(n, n))}, " for n in made.outputs)
        self.lines.append(f"{results}= {made.name}({arguments})")

    def _kernel(self, run: Run, pairs: list[tuple[str, str]]) -> Kernel:
        """The region's kernel: the same for all microbatches, so what any of them is read for later is an output."""
        if run.region not in self.kernels:
            region = self.programs.regions[run.region]
            wanted = frozenset(v for v in region.outputs if self._is_read(v, {value for _, value in pairs}))
            self.kernels[run.region] = kernel(region, self.programs.layout, self.held, pairs, wanted)
            self.regions[run.region] = self.kernels[run.region].module
        return self.kernels[run.region]

    def _is_read(self, value: str, added: set[str]) -> bool:
        """Whether any instruction other than an accumulation reads a region's value, for any microbatch."""
        count = self.programs.num_microbatches
        names = {f"{value}@{i}" for i in range(count)}
        return any(n in names for n in self.last_read) or value not in added

    def _scalars(self) -> None:
        assert self.optimizer is not None
        made = scalars_block(self.optimizer)
        if made.outputs:
            self.regions["scalars"] = made.module
            self._call("scalars", made)

    def _block(self, instructions: list[Instruction]) -> None:
        if all(isinstance(i, Free) for i in instructions):
            return
        present = [n for n in self.variables if not n.startswith(SCALARS)]
        made = block(self.programs, present, instructions, self.optimizer, frozenset(self.last_read))
        name = f"block{len(self.inlined)}"
        self.inlined[name] = made.module
        self._call(name, made)

    def _call(self, name: str, made: Block) -> None:
        arguments = ", ".join(self.variables[n] for n in made.inputs)
        state = [n for n in made.outputs if n in self.program.inputs]
        old = {n: self.variables[n] for n in state}
        results = "".join(f"{self._new(n)}, " for n in made.outputs)
        self.lines.append(f"{results}= {name}({arguments})")
        for n in state:
            self.lines.append(f"{old[n]}.copy_({self.variables[n]})")
            self.variables[n] = old[n]


def _pairs(run: Run, accumulate: Accumulate | None) -> list[tuple[str, str]]:
    """The accumulators with the region's value that each one adds."""
    if accumulate is None:
        return []
    suffix = f"@{run.microbatch}"
    return [(a, v.removesuffix(suffix)) for a, v in zip(accumulate.accumulators, accumulate.values, strict=True)]


def _last_reads(program: Program) -> set[str]:
    """Everything that an instruction other than `Accumulate` and `Free` reads, or that is returned."""
    read = {v for i in program.instructions if not isinstance(i, Accumulate | Free) for v in i.reads}
    return read | set(program.outputs.values())


def _made(kind: TensorType) -> str:
    return f"{list(kind.shape)}, {list(kind.stride)}, {kind.dtype}, torch.device({kind.device!r})"


