"""The backends that walk the instruction list in Python: `interpret`, and `regions`, which compiles each region."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from funpipe.backends.compiled import Request
from funpipe.backends.inductor import Source, build
from funpipe.backends.installed import Endpoint, endpoint
from funpipe.optim import Optimizer
from funpipe.programs.execute import Environment, execute
from funpipe.programs.instructions import AllReduce, Instruction, PostRecv, Send, WaitRecv, WaitSend, runs_of
from funpipe.programs.program import Program, Programs
from funpipe.stages.stage import Region


class Walk:
    """Runs a program instruction by instruction, with communication through the installed transport.

    Args:
        programs: all ranks' programs.
        request: which rank, and its transport.
        optimizer: for updates.
        run: how a region is run; by default operator by operator.
    """

    def __init__(
        self,
        programs: Programs,
        request: Request,
        optimizer: Optimizer | None,
        run: Callable[[str, list[Tensor]], Any] | None = None,
    ) -> None:
        self.programs, self.optimizer, self.run = programs, optimizer, run
        self.program: Program = programs.programs[request.rank]
        self.handle = request.transport
        self.watch: Callable[[], object] = lambda: None
        """Is called before each instruction, and after the last."""

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        values = dict(zip(self.program.inputs, inputs, strict=True))
        env = Environment(self.programs, values, self.optimizer, self.run)
        with _as_traced({value.device.type for value in inputs}):
            self._run(env)
        outputs = {name: env[value] for name, value in self.program.outputs.items()}
        return {n: env.values[n] for n in self.program.inputs} | outputs

    def as_text(self) -> str:
        """The program."""
        return self.program.as_text()

    def _run(self, env: Environment) -> None:
        for instruction in self.program.instructions:
            self.watch()
            self._step(instruction, env)
        self.watch()
        if self.optimizer is not None:
            env.values["step"] = env.values["step"] + 1

    def _step(self, instruction: Instruction, env: Environment) -> None:
        if isinstance(instruction, _COMMUNICATION):
            communicate(instruction, env, endpoint(self.handle))
        else:
            execute(instruction, env)


@contextmanager
def _as_traced(devices: Iterable[str]) -> Iterator[None]:
    """Without autocast: the casts that the loss function asked for are in the graph, and no others are wanted."""
    with ExitStack() as stack:
        for device in devices:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


_COMMUNICATION = (Send, WaitSend, PostRecv, WaitRecv, AllReduce)


def communicate(instruction: Instruction, env: Environment, end: Endpoint) -> None:
    """Runs one instruction that needs another rank."""
    match instruction:
        case Send(message, value):
            end.transport.send(env[value], end.messages[message])
        case WaitSend(message):
            end.transport.wait_send(end.messages[message])
        case PostRecv(message):
            end.transport.post_recv(end.messages[message])
        case WaitRecv(message, value):
            env.values[value] = end.transport.wait_recv(end.messages[message])
        case AllReduce(value, group):
            end.transport.all_reduce(env[value], group)


def interpret(programs: Programs, request: Request, optimizer: Optimizer | None, example: Sequence[Tensor]) -> Walk:
    """The `interpret` backend: every operator eagerly; it defines what a program means."""
    return Walk(programs, request, optimizer)


def regions(programs: Programs, request: Request, optimizer: Optimizer | None, example: Sequence[Tensor]) -> Walk:
    """The `regions` backend: each region that the rank runs compiled once, ahead of time.

    Two that overlap run one after the other: a region is what is compiled here, and a pair would be one more.

    Raises:
        CompileError: torch cannot compile a region.
    """
    names = dict.fromkeys(run.region for i in programs.programs[request.rank].instructions for run in runs_of(i))
    built = build([_source(programs.regions[name]) for name in names], request.report)
    compiled = {name: one.call for name, one in zip(names, built, strict=True)}
    return Walk(programs, request, optimizer, lambda name, inputs: compiled[name](list(inputs)))


def _source(region: Region) -> Source:
    return Source(region.name, region.module, tuple(region.types[n] for n in region.inputs))
