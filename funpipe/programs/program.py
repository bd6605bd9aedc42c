"""`Program` and `Programs`: what each rank does in one step, as data."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from funpipe._typing import MeshShape, TensorType
from funpipe.programs.instructions import Instruction
from funpipe.programs.layout import Layout
from funpipe.programs.message import Message
from funpipe.stages.stage import Region


@dataclass(frozen=True, eq=False)
class Program:
    """One rank's instructions, in order.

    Args:
        rank: the pipeline rank.
        instructions: what it does.
        stages: the stages placed on it.
        inputs: the names of the values that are there when the step begins, state first.
        outputs: the names of the results: `result.NAME`, and for buffers the value that replaces each.
    """

    rank: int
    instructions: tuple[Instruction, ...]
    stages: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: dict[str, str]

    def as_text(self) -> str:
        """One instruction a line; `programs.parse` reads it back."""
        from funpipe.programs.text import program_text

        return program_text(self)


@dataclass(frozen=True, eq=False)
class Programs:
    """The programs of all ranks of one pipeline, with what they refer to.

    Args:
        mesh: ranks along the pipeline, and replicas.
        programs: one for each pipeline rank; all replicas run the same.
        regions: by name (`F0`, `B0`, …).
        messages: by id.
        types: the type of every value, by name; a value has the same type on all ranks.
        layout: where the parameters live.
        num_microbatches: of one replica.
        leaf_order: all leaves with a gradient, in tree order: the order in which the norm is summed.
        batch_dims: the dimension along which each batch leaf is split, None for a replicated one.
        reducers: how each result is combined over replicas.
        divisor: what sums of gradients are divided by, unless by the weight of the batch; None: by nothing.
        applied: the passes that made them, in order.
        keys: the names of what the model draws, in the order of the matrix of their keys.
        objects: what text arguments of operators name; `knowing(objects)` is open while the programs run.
    """

    mesh: MeshShape
    programs: tuple[Program, ...]
    regions: dict[str, Region]
    messages: tuple[Message, ...]
    types: dict[str, TensorType]
    layout: Layout
    num_microbatches: int
    leaf_order: tuple[str, ...]
    batch_dims: dict[str, int | None]
    reducers: dict[str, str] = field(default_factory=dict)
    divisor: int | None = None
    applied: tuple[Any, ...] = ()
    objects: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ()

    def map(self, function: Callable[["Programs", Program], Program]) -> "Programs":
        """The same programs with each rank's replaced by `function(self, program)`."""
        from dataclasses import replace

        return replace(self, programs=tuple(function(self, p) for p in self.programs))

    def as_text(self) -> str:
        """All ranks' programs, one after the other."""
        return "\n\n".join(p.as_text() for p in self.programs)

    def digest(self) -> str:
        """A hash of the whole plan: programs, messages, types and regions; equal on every rank, or the plan differs."""
        kinds = {id(kind): kind for kind in self.types.values()}  # the microbatches of a value share one
        texts = {key: repr(kind) for key, kind in kinds.items()}
        parts = [line for program in self.programs for line in _content(program)]
        parts += [*map(repr, self.messages), repr(self.layout)]
        parts += [f"{name} {texts[id(kind)]}" for name, kind in sorted(self.types.items())]
        parts += [r.as_text() for r in self.regions.values()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _content(program: Program) -> Iterator[str]:
    """All that a program holds; quicker to write than its text."""
    yield repr((program.rank, program.stages, program.inputs, program.outputs))
    for instruction in program.instructions:
        yield repr((type(instruction).__name__, *vars(instruction).values()))
