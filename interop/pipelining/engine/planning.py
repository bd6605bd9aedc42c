"""From the stages of all ranks to the programs of one step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor, nn

from funpipe.functional import functionalize
from funpipe.interop.pipelining.engine.exchange import Ranks
from funpipe.interop.pipelining.engine.function import LOSS, StageFunction, part_of, shape_of
from funpipe.interop.pipelining.engine.inputs import Own
from funpipe.interop.pipelining.engine.options import Options
from funpipe.interop.pipelining.engine.shapes import Shape, source_of
from funpipe.interop.pipelining.engine.skeleton import Skeleton
from funpipe.interop.pipelining.errors import PipeRuntimeError, PipeValueError, Untraceable
from funpipe.interop.pipelining.wiring import Argument
from funpipe.passes import optimize
from funpipe.programs import Form, Outline, Programs, lower
from funpipe.schedules import Overlap, Table, Task
from funpipe.stages import Piece, Stage, Wires, link, readers, told
from funpipe.tracing import DataDependentError, Part, TraceError

Wiring = Sequence[Argument] | None

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Local:
    """This rank's side of a plan.

    Args:
        ranks: all of them.
        table: what they run.
        options: of the schedule.
        modules: this rank's stages, by index.
        owns: what this rank gives to each.
        wirings: of this rank's stages.
        training: whether the step is differentiated.
        outputs: whether the last stage's outputs are wanted.
    """

    ranks: Ranks
    table: Table
    options: Options
    modules: Mapping[int, nn.Module]
    owns: Mapping[int, Own]
    wirings: Mapping[int, Wiring]
    training: bool
    outputs: bool

    @property
    def last(self) -> int:
        """The index of the last stage."""
        return self.table.num_stages - 1


@dataclass(frozen=True, eq=False)
class Planned:
    """The programs of a step, and what this rank has to know of its stages.

    Args:
        programs: of all ranks.
        consts: tensors that this rank's modules hold besides parameters and buffers, by name in the programs.
        output: what the last stage returns.
        has_loss: whether it computes a loss.
    """

    programs: Programs
    consts: Mapping[str, Tensor]
    output: Shape
    has_loss: bool


def plan(local: Local) -> Planned:
    """Plans a step; all ranks call it.

    Args:
        local: this rank's side.

    Raises:
        PipeRuntimeError: another rank cannot trace a stage; this rank's own error is raised as it is.
    """
    parts, shapes = _chain(local)
    names = local.ranks.gather(lambda: {i: tuple(part.inputs) for i, part in parts.items()})
    inputs = [(i, n) for found in names for i, of_one in found.items() for n in of_one]
    wires = {(i, n): source for i, n in inputs if (source := source_of(n)) is not None}
    mine: dict[int, Piece] = {}
    consts: dict[str, Tensor] = {}
    told_by = local.ranks.gather(lambda: _trace(local, parts, wires, mine, consts))
    others = {i: one for found in told_by for i, one in found.items()}
    pieces = tuple(mine.get(i, others[i][0]) for i in range(local.table.num_stages))
    stages = tuple(_with_results(stage, pieces[i], others[i][1]) for i, stage in enumerate(link(pieces, wires)))
    programs = _lowered(local, pieces, stages)
    return Planned(programs, consts, shapes[-1], LOSS in pieces[-1].outputs)


def _chain(local: Local) -> tuple[dict[int, Part], list[Shape]]:
    """This rank's stages as functions with types, and what every stage returns."""
    parts: dict[int, Part] = {}
    shapes: list[Shape] = []

    def shape(index: int) -> Shape:
        function = _function(local, index, shapes)
        names = [n for skeleton in function.positional for n in skeleton.names]
        wired = {n: shapes[s[0]].leaves[s[1]] for n in names if (s := source_of(n)) is not None}
        parts[index] = part_of(function, wired, local.options, local.training)
        return shape_of(function, parts[index])

    for index in range(local.table.num_stages):
        shapes.append(local.ranks.tell(local.table.placement[index], lambda i=index: of_stage(i, lambda: shape(i))))
    return parts, shapes


def of_stage(index: int, make: Callable[[], T]) -> T:
    """Says of which stage an error of a module is.

    Args:
        index: of the stage.
        make: traces it.

    Raises:
        Untraceable: its module reads values out of tensors.
        PipeRuntimeError: it cannot be traced for another reason.
    """
    try:
        return make()
    except TraceError as error:
        kind = Untraceable if isinstance(error, DataDependentError) else PipeRuntimeError
        raise kind(f"[Stage {index}] failed to run forward: {error}") from error


def _function(local: Local, index: int, shapes: Sequence[Shape]) -> StageFunction:
    own, options = local.owns[index], local.options
    loss_fn = options.loss_fn if index == local.last and _has_loss(local, own) else None
    extra = (("stage_idx", index),) if options.with_indices else ()
    return StageFunction(
        index, functionalize(local.modules[index]), _positional(local, index, shapes), own, loss_fn, extra
    )


def _has_loss(local: Local, own: Own) -> bool:
    if local.options.loss_fn is not None and own.target is not None:
        return True
    if local.training:
        missing = "loss_fn" if local.options.loss_fn is None else "target"
        raise PipeValueError(
            f"loss_fn and target required for last stage, and there is no {missing}: make the schedule with loss_fn, "
            "pass step(..., target=...) on the last rank, or call eval() to run forwards alone."
        )
    return False


def _positional(local: Local, index: int, shapes: Sequence[Shape]) -> list[Skeleton]:
    wiring, own = local.wirings[index], local.owns[index]
    if wiring is None:
        return shapes[index - 1].positional(index - 1) if index else list(own.args.values())
    return [own.args[k] if k in own.args else _from_stage(a, shapes) for k, a in enumerate(wiring)]


def _from_stage(a: Argument, shapes: Sequence[Shape]) -> Skeleton:
    if a.stage is None:
        return shapes[0].argument(a.index)
    return shapes[a.stage].one(a.stage, int(a.index))


def _trace(
    local: Local, parts: Mapping[int, Part], wires: Wires, mine: dict[int, Piece], consts: dict[str, Tensor]
) -> dict[int, tuple[Piece, tuple[str, ...]]]:
    """Traces this rank's stages; what the others have to know of them, and the results that are wanted."""
    split = any(task.kind in "IW" for rank in range(local.table.num_ranks) for task in _tasks(local.table, rank))
    for i, part in parts.items():
        traced = of_stage(i, lambda p=part, i=i: p.trace(readers(wires, i), differentiate=local.training))
        waiting = [n for reader, n in wires if reader == i]
        mine[i] = Piece.of(i, traced, split=split, waiting=waiting)
        consts |= {f"{i}.{n}": value for n, value in traced.consts.items()}
    return {i: (told(piece), _wanted(local, i, piece)) for i, piece in mine.items()}


def _tasks(table: Table, rank: int) -> Iterator[Task]:
    for cell in table.order(rank):
        yield from cell if isinstance(cell, Overlap) else (cell,)


def _wanted(local: Local, index: int, piece: Piece) -> tuple[str, ...]:
    """The outputs that this rank's user gets."""
    if index != local.last:
        return ()
    return tuple(n for n in piece.outputs if n == LOSS or local.outputs)


def _with_results(stage: Stage, piece: Piece, wanted: Sequence[str]) -> Stage:
    """A stage with what its user gets of each microbatch: outputs, and gradients of the arguments."""
    outputs = {f"{stage.index}.{n}": piece.outputs[n] for n in wanted}
    own = {n: value for n, value in piece.gradients.items() if source_of(n) is None}
    gradients = {f"{stage.index}.gradient.{n}": value for n, value in own.items()}
    return replace(stage, results=stage.results | outputs | gradients)


def _lowered(local: Local, pieces: Sequence[Piece], stages: tuple[Stage, ...]) -> Programs:
    outline = Outline.of_pieces(pieces, stages)
    programs = lower(
        outline,
        stages,
        local.table,
        batch_dims=dict.fromkeys(outline.batch),
        optimizer=local.options.optimizer if local.training else None,
        form=Form(local.options.optimizer is None, not local.options.scale_grads, split_batch=False),
    )
    return optimize(programs)
