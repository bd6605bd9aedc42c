"""All ranks of a program in one process: each made ready to run, run as threads over the in-process transport."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from funpipe.backends import Executable, Request, compile
from funpipe.backends.installed import Endpoint, install, new_handle
from funpipe.optim import Optimizer
from funpipe.programs import Program, Programs, interpret
from funpipe.runtime.transports import InProcess
from tests.programs.models import LossFn, batch_of, buffers_of, params_of

Named = dict[str, Tensor]
Maker = Callable[[Programs, Request, Optimizer | None, Sequence[Tensor]], Executable]


def inputs_of(programs: Programs, loss_fn: LossFn) -> list[Named]:
    """The values that are there when a step begins, for each rank."""
    params, batch = params_of(loss_fn), batch_of(programs.num_microbatches)
    leaves = {"leaf": params, "batch": batch, "buffer": buffers_of(loss_fn) or {}}
    return [{n: _start(n, programs, leaves) for n in p.inputs} for p in programs.programs]


def _start(name: str, programs: Programs, leaves: dict[str, Named]) -> Tensor:
    kind, _, rest = name.partition(".")
    if kind in leaves:
        return leaves[kind][rest].detach().clone()
    flat = torch.zeros(programs.types[name].shape, dtype=programs.types[name].dtype)
    if kind == "bucket":
        bucket = next(b for b in programs.layout.buckets if b.name == rest)
        for slot in bucket.slots:
            slot.view(flat).copy_(leaves["leaf"][slot.leaf].detach())
    return flat


def example_of(programs: Programs, rank: int) -> list[Tensor]:
    """Inputs of the right types for compiling."""
    kinds = [programs.types[n] for n in programs.programs[rank].inputs]
    return [torch.zeros(k.shape, dtype=k.dtype) for k in kinds]


class Ranks:
    """Every rank ready to run.

    Args:
        backend: its name, or what makes a rank's executable.
        programs: of all ranks, after the passes.
        optimizer: what they were lowered with.
        fuse: as in `Request`.
    """

    def __init__(
        self, backend: str | Maker, programs: Programs, optimizer: Optimizer | None = None, fuse: bool = False
    ) -> None:
        self.programs = programs
        self.hub = InProcess(len(programs.programs), timeout=60)
        make = partial(compile, backend) if isinstance(backend, str) else backend
        self.executables = [self._made(make, p, optimizer, fuse) for p in programs.programs]

    def _made(self, make: Maker, program: Program, optimizer: Optimizer | None, fuse: bool) -> Executable:
        handle = new_handle()
        install(handle, Endpoint(self.hub.endpoint(program.rank), self.programs.messages))
        return make(
            self.programs, Request(program.rank, handle, fuse), optimizer, example_of(self.programs, program.rank)
        )

    def run(self, inputs: list[Named]) -> list[Named]:
        """One step of all ranks at once; each rank's state and results."""
        given = [
            [values[n].clone() for n in p.inputs] for p, values in zip(self.programs.programs, inputs, strict=True)
        ]
        with ThreadPoolExecutor(len(given)) as pool:
            return list(pool.map(lambda executable, values: executable(values), self.executables, given))


def expected(programs: Programs, inputs: list[Named], optimizer: Optimizer | None) -> list[Named]:
    """What the reference interpreter makes of the same step."""
    (found,) = interpret(programs, [[dict(values) for values in inputs]], optimizer)
    return [_state_and_results(p, values) for p, values in zip(programs.programs, found, strict=True)]


def _state_and_results(program: Program, values: Named) -> Named:
    state = {n: values[n] for n in program.inputs if n != "step"}
    return state | {name: values[value] for name, value in program.outputs.items()}
