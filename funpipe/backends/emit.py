"""A rank's program as the source of one Python function.

Regions and the local instructions between them become calls of graphs, communication becomes operators on a token.
Everything is written in place: a backward adds to the accumulators, which lie in the flat gradient of their bucket, and
an update overwrites its bucket. What the program frees is deleted; what a call is the last to read is handed over to
it, so that it may free each value as soon as it has been read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from torch import fx

from funpipe._typing import TensorType
from funpipe.backends.blocks import SCALARS, Block, block, scalars_block, scalars_of
from funpipe.backends.expressions import arguments_of, rows, view_of, zeros
from funpipe.backends.joined import Call, Pair, joined
from funpipe.backends.kernels import Kernel, kernel
from funpipe.backends.leaf_updates import LeafUpdate, leaf_update
from funpipe.backends.overlap import both
from funpipe.optim import Optimizer
from funpipe.programs.instructions import (
    Accumulate,
    AllReduce,
    Flatten,
    Free,
    Instruction,
    Microbatch,
    Overlap,
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
from funpipe.programs.program import Program, Programs
from funpipe.programs.rules.holders import casts_of
from funpipe.programs.slot_values import parts_of

_OWN_LINE = (Microbatch, Run, Overlap, Send, WaitSend, PostRecv, WaitRecv, AllReduce, Zero, Accumulate, Flatten)
"""Instructions that are not part of a block."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph that the source calls with a list of tensors.

    Args:
        module: flat tensors in, a tuple of tensors out; may write to its inputs.
        types: of its inputs, in order.
        parts: the two graphs, by name, of which this one is both at once; none for others.
    """

    module: fx.GraphModule
    types: tuple[TensorType, ...]
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lines:
    """Lines of a step's source that belong together.

    Args:
        instructions: what they do; none for the views and numbers made at the start.
        text: the lines.
        on_host: whether they compute single numbers on the host, wherever the state lives.
    """

    instructions: tuple[Instruction, ...]
    text: tuple[str, ...]
    on_host: bool = False


@dataclass(frozen=True, eq=False)
class Emitted:
    """The source of a step and what it refers to.

    Args:
        head: `def step(token, …inputs…):`.
        body: what it does, in order.
        graphs: by the name that the source uses: regions (`F0`), the optimizer's numbers (`scalars`), and the local
            instructions between communication (`block0`).
        inputs: names of the arguments after the token, in order.
        outputs: names of what is returned, in order.
        numbers: the variables that the lines on the host make, for the others.
    """

    head: str
    body: tuple[Lines, ...]
    graphs: dict[str, Graph]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The whole function."""
        return "\n    ".join([self.head, *(line for lines in self.body for line in lines.text)]) + "\n"


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
    views: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    body: list[Lines] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    temporary: set[str] = field(default_factory=set)
    inside: set[str] = field(default_factory=set)
    viewed: dict[str, list[str]] = field(default_factory=dict)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    graphs: dict[str, Graph] = field(default_factory=dict)
    updates: dict[object, str] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.calls = list(joined(self.program))
        self.read = _read(self.program)
        self.casts = casts_of(self.programs, self.program)
        self.adding = {runs_of(c.instruction)[-1].region for c in self.calls if c.pairs}
        self.flat = {a: place for i in self.program.instructions for a, place in _first_places(i)}

    def emit(self) -> Emitted:
        """The whole function."""
        arguments = [self._new(name) for name in self.program.inputs]
        if any(isinstance(i, Update) for i in self.program.instructions):
            self._scalars()
            self._close((), on_host=True)
        for own, group in groupby(enumerate(self.calls), lambda item: self._has_line(item[1].instruction)):
            if own:
                for _, call in group:
                    self._line(call)
                    self._close([call])
            else:
                indices, calls = zip(*group, strict=True)
                self._block(calls, self._read_from(indices[-1] + 1))
                self._close(calls)
        if self.optimizer is not None:  # also on a rank that has nothing to update: the count is the whole step's
            self.lines.append(f"{self.variables['step']}.add_(1)")
            self._close((), on_host=True)
        returned = "".join(f"{self.variables[value]}, " for value in self.program.outputs.values())
        self.lines.append(f"return ({returned})")
        self._close(())
        body = (Lines((), tuple(self.views)), *self.body)
        head = f"def step(token, {', '.join(arguments)}):"
        numbers = tuple(variable for name, variable in self.variables.items() if name.startswith(SCALARS))
        return Emitted(head, body, self.graphs, self.program.inputs, tuple(self.program.outputs), numbers)

    def _close(self, calls: Sequence[Call], on_host: bool = False) -> None:
        """The lines so far belong to these calls."""
        self.body.append(Lines(tuple(call.instruction for call in calls), tuple(self.lines), on_host))
        self.lines.clear()

    def _has_line(self, instruction: Instruction) -> bool:
        """Whether an instruction is not part of a block; an update of leaves calls a graph for each leaf."""
        if isinstance(instruction, Update):
            return self.programs.layout.bucket(instruction.bucket).scope != "element"
        return isinstance(instruction, _OWN_LINE)

    def _line(self, call: Call) -> None:
        if runs_of(call.instruction):
            self._run(call)
        else:
            self._other(call.instruction)
            self._delete(call.freed)

    def _other(self, instruction: Instruction) -> None:
        match instruction:
            case Microbatch():
                self._slice(instruction)
            case Zero(writes):
                self._zero(writes)
            case Accumulate(accumulators, values):
                pairs = zip(accumulators, values, strict=True)
                self.lines += [f"{self.variables[a]}.add_({self.variables[v]})" for a, v in pairs]
            case Flatten(bucket, places):
                self._flatten(bucket, places)
            case Update():
                self._update(instruction)
            case Send(message, value):
                self._op("send", self._value(value), message)
            case WaitSend(message, value):
                self._op("wait_send", self._value(value), message)
            case PostRecv(message):
                self._op("post_recv", None, message)
            case WaitRecv(message, value):
                kind = arguments_of(self.programs.messages[message].type)
                self._made(value, f"ops.wait_recv(token, {self.transport}, {message}, {kind})")
            case AllReduce(value, group):
                self.lines.append(f"ops.all_reduce({self.variables[value]}, token, {self.transport}, {group!r})")
            case other:
                raise TypeError(f"{other} has no line of its own.")

    def _op(self, name: str, value: str | None, message: int) -> None:
        self.lines.append(f"ops.{name}({f'{value}, ' if value else ''}token, {self.transport}, {message})")

    def _value(self, name: str) -> str:
        """A value's variable; a parameter is a view, made at the start, of the bucket that holds it."""
        if is_key(name):
            return self._key(name)
        if name not in self.variables and name.startswith(("param.", "master.")):
            base = self.programs.layout.base(name)
            if base is None or base[0] not in self.variables:
                return self.variables[f"leaf.{name.partition('.')[2]}"]
            lines = self.views if base[0].startswith("bucket.") else self.lines
            lines.append(f"{self._new(name)} = {view_of(self.variables[base[0]], base[1])}")
            if lines is self.lines:  # of a copy that is freed in this step
                self.temporary.add(self.variables[name])
                self.viewed.setdefault(base[0], []).append(name)
        return self.variables[name]

    def _key(self, name: str) -> str:
        """A key of a draw, as a view of all of them."""
        if name not in self.variables:
            at = offset_of(self.programs.keys, name)
            self._made(name, f"{self.variables['keys']}.as_strided((), (), {at})")
        return self.variables[name]

    def _new(self, name: str) -> str:
        self.variables[name] = f"v{self.count}"
        self.count += 1
        return self.variables[name]

    def _made(self, name: str, expression: str) -> None:
        """A line that makes a value, which may be deleted when the program frees it."""
        self.lines.append(f"{self._new(name)} = {expression}")
        self.temporary.add(self.variables[name])

    def _delete(self, names: Sequence[str]) -> None:
        names = [view for n in names for view in (n, *self.viewed.get(n, ()))]
        gone = [v for v in dict.fromkeys(self.variables.get(n) for n in names) if v in self.temporary]
        self.temporary.difference_update(gone)  # type: ignore[arg-type]
        if gone:
            self.lines.append(f"del {', '.join(gone)}")  # type: ignore[arg-type]

    def _zero(self, names: Sequence[str]) -> None:
        """Accumulators: the first place of a leaf is a view of its bucket's flat gradient."""
        for name in names:
            if name not in self.flat:
                self._made(name, zeros(self.programs.types[name]))
                continue
            bucket, index = self.flat[name]
            self._made(name, view_of(self._flat(bucket), self.programs.layout.bucket(bucket).slots[index]))
            self.inside.add(name)

    def _flatten(self, bucket: str, places: Sequence[Sequence[str]]) -> None:
        """The first places lie in the flat gradient already, unless another rank sent them; the others are added."""
        flat = self._flat(bucket)
        for slot, (first, *others) in zip(self.programs.layout.bucket(bucket).slots, places, strict=True):
            if first not in self.inside:
                self.lines.append(f"{view_of(flat, slot)}.copy_({self.variables[first]})")
            self.lines += [f"{view_of(flat, slot)}.add_({self.variables[other]})" for other in others]

    def _update(self, instruction: Update) -> None:
        """Calls the graph of each leaf's shape; what it reads lies in the bucket, its gradient, and slots."""
        assert self.optimizer is not None
        flat, grad = self.variables[f"bucket.{instruction.bucket}"], self._flat(instruction.bucket)
        numbers = tuple(scalars_of(self.optimizer))
        for part in parts_of(self.programs.layout.bucket(instruction.bucket)):
            update = LeafUpdate(self.programs, instruction, part, self.optimizer, numbers)
            if update.key not in self.updates:
                name = self.updates[update.key] = f"update{len(self.updates)}"
                self.graphs[name] = Graph(leaf_update(update).module, update.types)
            views = [view_of(whole, slot) for whole in (flat, grad) for slot in part]
            rest = [self._value(name) for name in (*update.slots, *update.others)]
            self._hand_over(self.updates[update.key], [*views, *rest], (), ())

    def _flat(self, bucket: str) -> str:
        """The variable of a bucket's flat gradient, zero at first, also between the leaves."""
        name = f"grad.{bucket}"
        if name not in self.variables:
            self._made(name, zeros(self.programs.types[name]))
        return self.variables[name]

    def _slice(self, instruction: Microbatch) -> None:
        for leaf, name in zip(instruction.leaves, instruction.writes, strict=True):
            dim, source = self.programs.batch_dims[leaf], self.variables[f"batch.{leaf}"]
            if dim is None:
                self.variables[name] = source
            else:
                self._made(name, rows(source, self.programs.types[name], dim, instruction.index))

    def _run(self, call: Call) -> None:
        """Calls a region's graph, or the one graph of two regions that overlap; the last adds to the accumulators."""
        runs = runs_of(call.instruction)
        pairs = [()] * (len(runs) - 1) + [call.pairs]
        names = [self._kernel(run, added) for run, added in zip(runs, pairs, strict=True)]
        bound = [b for run, name in zip(runs, names, strict=True) for b in self._bound(run, self.kernels[name])]
        made = [m for run, name in zip(runs, names, strict=True) for m in self._outputs(run, self.kernels[name])]
        name = names[0] if len(names) == 1 else self._both(*names)
        self._hand_over(name, [self._value(n) for n in bound], call.freed, made)

    def _bound(self, run: Run, made: Kernel) -> list[str]:
        bound = dict(zip(self.programs.regions[run.region].inputs, run.reads, strict=True))
        return [bound.get(n, n) for n in made.inputs]

    def _outputs(self, run: Run, made: Kernel) -> list[str]:
        written = dict(zip(self.programs.regions[run.region].outputs, run.writes, strict=True))
        return [written[n] for n in made.outputs]

    def _both(self, first: str, second: str) -> str:
        """The name of the graph that is two at once."""
        name, (one, other) = f"{first}_{second}", (self.graphs[n] for n in (first, second))
        if name not in self.graphs:
            module = both(one.module.graph, other.module.graph)
            self.graphs[name] = Graph(module, (*one.types, *other.types), (first, second))
        return name

    def _hand_over(self, graph: str, arguments: Sequence[str], freed: Sequence[str], made: Sequence[str]) -> None:
        """A call that owns the arguments which nothing reads after it."""
        self.lines.append(f"arguments = [{', '.join(arguments)}]")
        self._delete(freed)
        results = [self._new(n) for n in made]
        self.temporary.update(results)
        self.lines.append(f"{''.join(f'{v}, ' for v in results)}{'= ' if results else ''}{graph}(arguments)")
        self._delete([n for n in made if n in freed])

    def _kernel(self, run: Run, pairs: tuple[Pair, ...]) -> str:
        """The region's kernel: the same for all microbatches, so what any of them is read for later is an output."""
        name = run.region if pairs or run.region not in self.adding else f"{run.region}_apart"
        if name not in self.kernels:
            region = self.programs.regions[run.region]
            wanted = frozenset(v for v in region.outputs if self._is_read(v, {value for _, value in pairs}))
            self.kernels[name] = kernel(region, pairs, wanted, self.programs.types)
            self.graphs[name] = Graph(self.kernels[name].module, self.kernels[name].types)
        return name

    def _is_read(self, value: str, added: set[str]) -> bool:
        """Whether anything other than an accumulation reads a region's value, for any microbatch."""
        names = {f"{value}@{i}" for i in range(self.programs.num_microbatches)}
        return value not in added or not names.isdisjoint(self.read)

    def _scalars(self) -> None:
        assert self.optimizer is not None
        made = scalars_block(self.optimizer)
        if made.outputs:
            self._call("scalars", made, ())

    def _read_from(self, index: int) -> frozenset[str]:
        """What the calls from one on read, and what is returned."""
        read = {self.casts.get(name, name) for call in self.calls[index:] for name in call.instruction.reads}
        keys = {"keys"} if any(map(is_key, read)) else set[str]()
        return frozenset(read | keys | set(self.program.outputs.values()))

    def _block(self, calls: Sequence[Call], wanted: frozenset[str]) -> None:
        present = [n for n in self.variables if not n.startswith(SCALARS)]
        instructions = [call.instruction for call in calls]
        made = block(self.programs, present, instructions, self.optimizer, wanted)
        name = f"block{sum(n.startswith('block') for n in self.graphs)}"
        self._call(name, made, [n for call in calls for n in call.freed])

    def _call(self, name: str, made: Block, freed: Sequence[str]) -> None:
        self.graphs[name] = Graph(made.module, made.types)
        self._hand_over(name, [self._value(n) for n in made.inputs], freed, made.outputs)


def _first_places(instruction: Instruction) -> list[tuple[str, tuple[str, int]]]:
    """The first place of each leaf of a flattened bucket, with the bucket and the leaf's index in it."""
    if not isinstance(instruction, Flatten):
        return []
    return [(first, (instruction.bucket, k)) for k, (first, *_) in enumerate(instruction.places)]


def _read(program: Program) -> frozenset[str]:
    """Everything that an instruction other than `Accumulate` and `Free` reads, or that is returned."""
    read = {v for i in program.instructions if not isinstance(i, Accumulate | Free) for v in i.reads}
    return frozenset(read | set(program.outputs.values()))
