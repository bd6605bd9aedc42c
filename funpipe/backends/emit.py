"""A rank's program as the source of one Python function, which is then compiled whole.

Regions become calls of nested regions, communication becomes operators on a token, and the local instructions between
them graphs that are inlined. State is overwritten in place as soon as its new value exists; results are returned.
"""

from dataclasses import dataclass, field
from itertools import groupby

from torch import fx

from funpipe._typing import TensorType
from funpipe.backends.blocks import SCALARS, Block, block, scalars_block
from funpipe.backends.expressions import arguments_of, parameter, rows, zeros
from funpipe.backends.joined import Pair, joined
from funpipe.backends.kernels import Kernel, kernel
from funpipe.backends.structure import structure
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
from funpipe.stages.stage import Region

_OWN_LINE = (Microbatch, Run, Send, WaitSend, PostRecv, WaitRecv, AllReduce, Zero)
"""Instructions that are not part of a block."""


@dataclass(frozen=True, eq=False)
class Emitted:
    """The source of a step and what it refers to.

    Args:
        source: of `def step(token, …inputs…)`.
        regions: graphs that are compiled once and called, by the name that the source uses.
        first: for each of them the first one that is the same: stages of equal layers share their compiled regions.
        inlined: graphs that become part of the function.
        inputs: names of the arguments after the token, in order.
        outputs: names of what is returned, in order.
    """

    source: str
    regions: dict[str, fx.GraphModule]
    first: dict[str, str]
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
    first: dict[str, str] = field(default_factory=dict)
    structures: dict[str, str] = field(default_factory=dict)
    inlined: dict[str, fx.GraphModule] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.read = _read(self.program)
        self.adding = {i.region for i, pairs in joined(self.program) if isinstance(i, Run) and pairs}
        self.held = frozenset(n.removeprefix("bucket.") for n in self.program.inputs if n.startswith("bucket."))

    def emit(self) -> Emitted:
        """The whole function."""
        arguments = [self._new(name) for name in self.program.inputs]
        updates = any(isinstance(i, Update) for i in self.program.instructions)
        if updates:
            self._scalars()
        self._body()
        if self.optimizer is not None:  # also on a rank that has nothing to update: the count is the whole step's
            self.lines.append(f"{self.variables['step']}.add_(1)")
        returned = "".join(f"{self.variables[value]}, " for value in self.program.outputs.values())
        head = f"def step(token, {', '.join(arguments)}):"
        source = "\n    ".join([head, *self.lines, f"return ({returned})"]) + "\n"
        return Emitted(source, self.regions, self.first, self.inlined, self.program.inputs, tuple(self.program.outputs))

    def _body(self) -> None:
        for own, group in groupby(joined(self.program), lambda item: isinstance(item[0], _OWN_LINE)):
            if own:
                for instruction, pairs in group:
                    self._line(instruction, pairs)
            else:
                self._block([instruction for instruction, _ in group])

    def _line(self, instruction: Instruction, pairs: list[Pair]) -> None:
        match instruction:
            case Run():
                self._run(instruction, pairs)
            case Microbatch():
                self._slice(instruction)
            case Zero(writes):
                self.lines += [f"{self._new(n)} = {zeros(self.programs.types[n])}" for n in writes]
            case Send(message, value):
                self._op("send", self._value(value), message)
            case WaitSend(message, value):
                self._op("wait_send", self._value(value), message)
            case PostRecv(message):
                self._op("post_recv", None, message)
            case WaitRecv(message, value):
                kind = arguments_of(self.programs.messages[message].type)
                self.lines.append(f"{self._new(value)} = ops.wait_recv(token, {self.transport}, {message}, {kind})")
            case AllReduce(value, group):
                self.lines.append(f"ops.all_reduce({self.variables[value]}, token, {self.transport}, {group!r})")
            case other:
                raise TypeError(f"{other} has no line of its own.")

    def _op(self, name: str, value: str | None, message: int) -> None:
        self.lines.append(f"ops.{name}({f'{value}, ' if value else ''}token, {self.transport}, {message})")

    def _value(self, name: str) -> str:
        """A value as an expression; a parameter is a view of the bucket that holds it."""
        if name in self.variables:
            return self.variables[name]
        leaf = name.removeprefix("param.")
        home = self.programs.layout.home(leaf)
        if home is not None and home[0].name in self.held:
            return parameter(self.variables[f"bucket.{home[0].name}"], home)
        return self.variables[f"leaf.{leaf}"]

    def _new(self, name: str) -> str:
        self.variables[name] = f"v{self.count}"
        self.count += 1
        return self.variables[name]

    def _slice(self, instruction: Microbatch) -> None:
        for leaf, name in zip(instruction.leaves, instruction.writes, strict=True):
            dim, source = self.programs.batch_dims[leaf], self.variables[f"batch.{leaf}"]
            if dim is None:
                self.variables[name] = source
            else:
                made = rows(source, self.programs.types[name], dim, instruction.index)
                self.lines.append(f"{self._new(name)} = {made}")

    def _run(self, run: Run, pairs: list[Pair]) -> None:
        name, made = self._kernel(run, pairs)
        bound = dict(zip(self.programs.regions[run.region].inputs, run.reads, strict=True))
        arguments = ", ".join(self.variables[bound.get(n, n)] for n in made.inputs)
        written = dict(zip(self.programs.regions[run.region].outputs, run.writes, strict=True))
        results = "".join(f"{self._new(written.get(n, n))}, " for n in made.outputs)
        self.lines.append(f"{results}= {name}({arguments})")

    def _kernel(self, run: Run, pairs: list[Pair]) -> tuple[str, Kernel]:
        """The region's kernel: the same for all microbatches, so what any of them is read for later is an output."""
        name = run.region if pairs or run.region not in self.adding else f"{run.region}_apart"
        if name not in self.kernels:
            region = self.programs.regions[run.region]
            wanted = frozenset(v for v in region.outputs if self._is_read(v, {value for _, value in pairs}))
            self.kernels[name] = kernel(region, self.programs.layout, self.held, pairs, wanted)
            self._region(name, self.kernels[name].module, [self._type(region, n) for n in self.kernels[name].inputs])
        return name, self.kernels[name]

    def _type(self, region: Region, name: str) -> TensorType:
        return region.types.get(name) or self.programs.types[name]

    def _region(self, name: str, module: fx.GraphModule, types: list[TensorType]) -> None:
        self.regions[name] = module
        self.first[name] = self.structures.setdefault(structure(module.graph, types), name)

    def _is_read(self, value: str, added: set[str]) -> bool:
        """Whether anything other than an accumulation reads a region's value, for any microbatch."""
        names = {f"{value}@{i}" for i in range(self.programs.num_microbatches)}
        return value not in added or not names.isdisjoint(self.read)

    def _scalars(self) -> None:
        assert self.optimizer is not None
        made = scalars_block(self.optimizer)
        if made.outputs:
            self._region("scalars", made.module, [self.programs.types["step"]])
            self._call("scalars", made)

    def _block(self, instructions: list[Instruction]) -> None:
        present = [n for n in self.variables if not n.startswith(SCALARS)]
        made = block(self.programs, present, instructions, self.optimizer, self.read)
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


def _read(program: Program) -> frozenset[str]:
    """Everything that an instruction other than `Accumulate` and `Free` reads, or that is returned."""
    read = {v for i in program.instructions if not isinstance(i, Accumulate | Free) for v in i.reads}
    return frozenset(read | set(program.outputs.values()))
