"""From an exported model to the modules of its stages."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import fx, nn
from torch.export import ExportedProgram

from funpipe.interop.pipelining._IR.borders import borders
from funpipe.interop.pipelining._IR.calling import Calling, calling_of
from funpipe.interop.pipelining._IR.capture import unlifted
from funpipe.interop.pipelining._IR.containers import Structure
from funpipe.interop.pipelining._IR.extract import stage_modules
from funpipe.interop.pipelining._IR.prepare import prepare
from funpipe.interop.pipelining._IR.stage_module import StageModule
from funpipe.interop.pipelining.wiring import Argument

SplitPolicy = Callable[[fx.GraphModule], fx.GraphModule]
"""What puts `aten_pipe_split_alias` into a captured model."""


@dataclass(frozen=True, eq=False)
class Stages:
    """A model in stages.

    Args:
        modules: of the stages.
        wiring: for each stage where its inputs come from.
        calling: the model's arguments.
    """

    modules: list[StageModule]
    wiring: tuple[tuple[Argument, ...], ...]
    calling: Calling


def cut_model(mod: nn.Module, program: ExportedProgram, split_policy: SplitPolicy | None) -> Stages:
    """Cuts an exported model at its marks.

    Args:
        mod: the model, whose tensors the stages share.
        program: `torch.export.export` of it.
        split_policy: puts marks into its graph.

    Raises:
        PipeValueError: a mark is where no stage can end.
    """
    captured = unlifted(program)
    captured = captured if split_policy is None else split_policy(captured)
    model = prepare(mod, captured, calling_of(mod, program), Structure(program.call_spec.out_spec))
    cut = borders(model.graph, model.stages, model.calling)
    return Stages(stage_modules(mod, model, cut), tuple(border.wiring for border in cut), model.calling)
