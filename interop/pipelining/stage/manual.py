"""A stage that the user built: a module of his own, connected with the stage before and the one after."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from funpipe.interop.pipelining.stage.base import _PipelineStageBase
from funpipe.interop.pipelining.stage.declared import described

Tensors = torch.Tensor | tuple[torch.Tensor, ...] | None
Gradients = torch.Tensor | tuple[torch.Tensor | None, ...] | None


class PipelineStage(_PipelineStageBase):
    """One stage of a pipeline, made of a module by hand; stage i's outputs are stage i + 1's positional inputs.

    The example tensors are optional: shapes are found out when the pipeline first runs. Only who exchanges messages
    himself (`get_fwd_recv_ops`) needs them.

    Args:
        submodule: the stage's module; its parameters' `.grad` are filled.
        stage_index: which stage it is, from 0.
        num_stages: how many stages the pipeline has.
        device: where the stage's tensors are received.
        input_args: example tensors of one microbatch, the stage's positional inputs.
        output_args: example tensors of one microbatch, what it returns.
        output_grads: example gradients of what it returns; None: shaped like the outputs.
        input_grads: example gradients of its inputs; None: shaped like the inputs.
        group: the processes of the pipeline; None: all.
        dw_builder: called after each backward of a stage's input, returns what computes the gradients of the weights.
        get_mesh: from a mesh's names and layout to the mesh, for the original's DTensor inputs; kept and not called.

    Raises:
        PipeValueError: there is no such stage.
        PipeRuntimeError: more processes than stages.
        PipeliningMetadataError: an example that is no tensor.

    Example:
        >>> stage = PipelineStage(torch.nn.Linear(4, 4), 0, 2, torch.device("cpu"))
        >>> stage.is_first, stage.is_last
        (True, False)
    """

    def __init__(
        self,
        submodule: torch.nn.Module,
        stage_index: int,
        num_stages: int,
        device: torch.device,
        input_args: Tensors = None,
        output_args: Tensors = None,
        output_grads: Gradients = None,
        input_grads: Gradients = None,
        group: dist.ProcessGroup | None = None,
        dw_builder: Callable[[], Callable[..., None]] | None = None,
        get_mesh: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(submodule, stage_index, num_stages, device, group, dw_builder)
        self.inputs_meta = described(input_args)
        self.outputs_meta = described(output_args, "Stage output")
        self.output_grads_meta = described(output_grads, "Output gradient")
        self.input_grads_meta = described(input_grads, "Input gradient")
        self.get_mesh = get_mesh
