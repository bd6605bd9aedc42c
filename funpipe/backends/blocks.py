"""Local instructions of a program as graphs, traced from what the interpreter means by them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._typing import TensorType
from funpipe.graphs.stand_in import fake_like
from funpipe.optim import Optimizer
from funpipe.programs.execute import Environment, execute
from funpipe.programs.instructions import Free, Instruction, Squares, Update
from funpipe.programs.program import Programs

SCALARS = "scalars."
"""The prefix of the optimizer's numbers of this step among a block's inputs."""


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive local instructions as one graph.

    Args:
        module: flat tensors in, a tuple of tensors out; at its end it overwrites the inputs that the instructions
            change, if they are state (`bucket.NAME`, `slot.PATH.NAME`, `leaf.NAME`) or read later.
        inputs: names of the values read or overwritten.
        outputs: names of the values made.
        types: of the inputs, in order.
    """

    module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: tuple[TensorType, ...]


def block(
    programs: Programs,
    present: Sequence[str],
    instructions: Sequence[Instruction],
    optimizer: Optimizer | None,
    wanted: frozenset[str],
) -> Block:
    """Traces local instructions.

    Args:
        programs: all programs.
        present: the names of the values that are there before.
        instructions: none of them communicates or runs a region.
        optimizer: for updates.
        wanted: what is read later.
    """
    names = _inputs(programs, present, instructions)
    scalars = [f"{SCALARS}{n}" for n in scalars_of(optimizer)] if any(map(reads_scalars, instructions)) else []
    outputs: list[str] = []

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip((*names, *scalars), tensors, strict=True))
        env = Environment(programs, {n: given[n] for n in names}, optimizer)
        env.scalars = {n.removeprefix(SCALARS): given[n] for n in scalars}
        for instruction in instructions:
            if not isinstance(instruction, Free):
                execute(instruction, env)
        new = {n: v for n, v in env.values.items() if _is_new(n, v, given)}
        outputs[:] = [n for n in new if n in wanted and n not in given]
        overwritten = [n for n in new if n in given and (n in wanted or _is_state(n))]
        for n, value in zip(overwritten, apart([new[n] for n in overwritten], given), strict=True):
            given[n].copy_(value)
        return tuple(new[n] for n in outputs)

    mode = _compat.fake_mode()
    kinds = [*_kinds(programs, names, optimizer), *[_number(programs, names, torch.float64)] * len(scalars)]
    module = make_fx(run, tracing_mode="fake")(*(fake_like(k, mode) for k in kinds))
    module.graph.eliminate_dead_code()
    module.recompile()
    return Block(module, (*names, *scalars), tuple(outputs), tuple(kinds))


def reads_scalars(instruction: Instruction) -> bool:
    """Whether an instruction reads the optimizer's numbers."""
    return isinstance(instruction, Update) or (isinstance(instruction, Squares) and bool(instruction.state))


def _kinds(programs: Programs, names: Sequence[str], optimizer: Optimizer | None) -> list[TensorType]:
    """Types of values; the count of steps lies where what it updates, or the key, does; uncounted, on the host."""
    count = programs.types["step"] if optimizer is None else _number(programs, names, torch.int64)
    return [count if n == "step" else programs.types[n] for n in names]


def _number(programs: Programs, names: Sequence[str], dtype: torch.dtype) -> TensorType:
    """A number that an update reads: beside its bucket, so that no kernel has its value in its arguments."""
    device = next((programs.types[n].device for n in names if n.startswith("bucket.") or n == "key"), "cpu")
    return TensorType((), (), dtype, device)


def apart(values: Sequence[Tensor], given: dict[str, Tensor]) -> list[Tensor]:
    """Values that no write to what is given changes: a slot may keep what another one, or the bucket, was before."""
    return [v.clone() if any(_compat.same_memory(v, g) for g in given.values()) else v for v in values]


def scalars_block(optimizer: Optimizer) -> Block:
    """The optimizer's numbers of one step, from the step's count."""
    names = tuple(f"{SCALARS}{n}" for n in scalars_of(optimizer))
    count = torch.tensor(0, device="cpu")
    module = make_fx(lambda step: tuple(optimizer.scalars(step).values()), tracing_mode="fake")(count)
    return Block(module, ("step",), names, (TensorType.of(count),))


def scalars_of(optimizer: Optimizer | None) -> dict[str, Tensor]:
    """The optimizer's numbers of the first step, by name."""
    return optimizer.scalars(torch.tensor(0, device="cpu")) if optimizer else {}


def _inputs(programs: Programs, present: Sequence[str], instructions: Sequence[Instruction]) -> list[str]:
    """What the instructions read and do not make; a parameter is read from its bucket."""
    made: set[str] = set()
    found: dict[str, None] = {}
    for instruction in instructions:
        for name in instruction.reads:
            if name not in made and not isinstance(instruction, Free):
                found.setdefault(_held(programs, present, name))
        made.update(instruction.writes)
        found.update(dict.fromkeys(n for n in _likes(instruction) if n in present))
    return list(found)


def _likes(instruction: Instruction) -> list[str]:
    """Values that an instruction reads for their device alone."""
    bucket = getattr(instruction, "bucket", None)
    return [f"bucket.{bucket}"] if bucket else []


def _held(programs: Programs, present: Sequence[str], name: str) -> str:
    kind, _, leaf = name.partition(".")
    if kind != "param" or name in present:
        return name
    home = programs.layout.home(leaf)
    return f"bucket.{home[0].name}" if home and f"bucket.{home[0].name}" in present else f"leaf.{leaf}"


def _is_new(name: str, value: Tensor, given: dict[str, Tensor]) -> bool:
    return name not in given or given[name] is not value


def _is_state(name: str) -> bool:
    return name.startswith(("bucket.", "slot.", "leaf.", "scale."))
