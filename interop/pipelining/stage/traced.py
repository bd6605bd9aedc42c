"""A stage cut out of a traced model."""

import torch
import torch.distributed as dist

from funpipe.interop.pipelining._utils import PipeInfo
from funpipe.interop.pipelining.stage.base import _PipelineStageBase


class _PipelineStage(_PipelineStageBase):
    """One stage of a traced model; its inputs come from any earlier stage, or are arguments of the model.

    Args:
        stage_module: the stage's module, `pipe.get_stage_module(stage_index)`.
        stage_index: which stage it is, from 0.
        pipe_info: `pipe.info()`: how many stages there are and what each takes from which.
        device: where the stage's tensors are received; the module is moved there.
        group: the processes of the pipeline; None: all.
    """

    def __init__(
        self,
        stage_module: torch.nn.Module,
        stage_index: int,
        pipe_info: PipeInfo,
        device: torch.device,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(stage_module, stage_index, pipe_info.num_stages, device, group)
        self.pipe_info = pipe_info
        self.pipeline_wiring = pipe_info.wiring
        self.wiring = pipe_info.wiring[stage_index]
        self.submod.to(self.device)


def build_stage(
    stage_module: torch.nn.Module,
    stage_index: int,
    pipe_info: PipeInfo,
    device: torch.device,
    group: dist.ProcessGroup | None = None,
) -> _PipelineStage:
    """A stage of a traced model, ready for a schedule.

    Args:
        stage_module: the stage's module, `pipe.get_stage_module(stage_index)`, or it wrapped or compiled.
        stage_index: which stage it is, from 0.
        pipe_info: `pipe.info()`.
        device: where the stage runs; the module is moved there.
        group: the processes of the pipeline; None: all.

    Returns:
        The stage.

    Raises:
        PipeValueError: there is no such stage.
        PipeRuntimeError: more processes than stages.

    Example:
        >>> from funpipe.interop.pipelining import SplitPoint, pipeline
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
        >>> pipe = pipeline(model, (torch.ones(2, 4),), split_spec={"1": SplitPoint.BEGINNING})
        >>> stage = build_stage(pipe.get_stage_module(1), 1, pipe.info(), torch.device("cpu"))
        >>> stage.is_last, stage.wiring
        (True, (Argument(stage=0, index=0),))
    """
    return _PipelineStage(stage_module, stage_index, pipe_info, device, group)
