"""A model cut into stages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.distributed import ProcessGroup
from torch.export import ExportedProgram

from funpipe.interop.pipelining._IR.calling import Calling
from funpipe.interop.pipelining._IR.capture import capture
from funpipe.interop.pipelining._IR.cut_model import SplitPolicy, cut_model
from funpipe.interop.pipelining._IR.detach_executor import DetachExecutor
from funpipe.interop.pipelining._IR.devices import move_graph
from funpipe.interop.pipelining._IR.loss import loss_steps
from funpipe.interop.pipelining._IR.multi_use import MultiUseParamSpec, check_multi_use
from funpipe.interop.pipelining._IR.pipeline_graph import pipeline_graph
from funpipe.interop.pipelining._IR.replicated import replicas, replicated_params
from funpipe.interop.pipelining._IR.submodule_names import get_submod_name
from funpipe.interop.pipelining._utils import PipeInfo
from funpipe.interop.pipelining.errors import PipeRuntimeError, PipeValueError
from funpipe.interop.pipelining.wiring import Argument

if TYPE_CHECKING:
    from funpipe.interop.pipelining.stage import _PipelineStage


class Pipe(nn.Module):
    """A model cut into stages; made by `pipeline`.

    Args:
        split_gm: the graph that calls the stages; its children `submod_pp_0`, `submod_pp_1`, … are their modules.
        num_stages: how many there are.
        has_loss_and_backward: whether that graph has the model's loss and the stages' backward passes.
        loss_spec: where in the model's results the loss is; None: nowhere.
        calling: the model's arguments.
        wiring: for each stage where its inputs come from.

    Attributes:
        split_gm, num_stages, has_loss_and_backward, loss_spec, wiring: the arguments.
        executor: what runs `split_gm` here.
        replicated_params: for each parameter that several stages have, its name in each of their modules.

    Example:
        >>> from funpipe.interop.pipelining import SplitPoint, pipeline
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> pipe = pipeline(model, (torch.ones(1, 2),), split_spec={"1": SplitPoint.BEGINNING})
        >>> torch.equal(pipe(torch.ones(1, 2))[0], model(torch.ones(1, 2)))
        True
        >>> sorted(pipe.get_stage_module(1).state_dict())
        ['1.bias', '1.weight']
    """

    def __init__(
        self,
        split_gm: fx.GraphModule,
        num_stages: int,
        has_loss_and_backward: bool,
        loss_spec: Any,
        calling: Calling,
        wiring: tuple[tuple[Argument, ...], ...],
    ) -> None:
        super().__init__()
        self.split_gm: fx.GraphModule = split_gm
        self.split_gm.forward = _not_by_itself
        self.executor = DetachExecutor(split_gm)
        self.num_stages = num_stages
        self.has_loss_and_backward = has_loss_and_backward
        self.loss_spec = loss_spec
        self.wiring = wiring
        self.replicated_params = replicated_params([self.get_stage_module(stage) for stage in range(num_stages)])
        self._calling = calling

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Runs all stages here, and their backward passes if the graph has them.

        Args:
            args: the model's positional arguments; a batch may be larger or smaller than the example where the model
                has not made a constant of its size.
            kwargs: its keyword arguments.

        Returns:
            The leaves of what the model returns; for a model that returns one tensor a tuple of one. The last stage's
            module returns what the model does.

        Raises:
            PipeTypeError: an argument is missing or unknown.
            PipeValueError: one that is no tensor has another value than the stages were made for.
        """
        out = self.executor.run(*self.bind(args, kwargs))
        structure: Any = getattr(self.get_stage_module(self.num_stages - 1), "_stage_structure", None)
        return (out,) if structure is None else tuple(structure.flatten_up_to(out))

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments of a call in the order in which the model was traced with them.

        Args:
            args: positional arguments; after those that were traced as such, the traced keywords in order.
            kwargs: keyword arguments.

        Raises:
            PipeTypeError: as for a call.
            PipeValueError: as for a call.
        """
        return self._calling.bind(args, kwargs)

    def get_stage_module(self, stage_idx: int) -> nn.Module:
        """The module of a stage.

        Args:
            stage_idx: its index.

        Raises:
            PipeValueError: there is no such stage.
        """
        if not 0 <= stage_idx < self.num_stages:
            raise PipeValueError(f"Invalid stage index {stage_idx}! Use one from 0 to {self.num_stages - 1}.")
        return self.split_gm.get_submodule(get_submod_name(stage_idx))

    def build_stage(
        self, stage_index: int, device: torch.device | str, group: ProcessGroup | None = None
    ) -> "_PipelineStage":
        """A stage for a schedule.

        The stage's module is moved to `device`, with the devices that the model's code names, as in
        `torch.zeros(..., device=...)`.

        Args:
            stage_index: which one.
            device: where it runs.
            group: the processes of the pipeline; None: all of them.

        Raises:
            PipeValueError: there is no such stage.
        """
        from funpipe.interop.pipelining.stage import build_stage

        module = self.get_stage_module(stage_index)
        move_graph(module, torch.device(device))
        return build_stage(module, stage_index, self.info(), torch.device(device), group)

    def info(self) -> PipeInfo:
        """What a stage has to know of the whole pipeline."""
        shared = replicas(self.replicated_params)
        return PipeInfo(self.split_gm.graph, self.num_stages, self.has_loss_and_backward, self.wiring, shared)

    def print_readable(self) -> None:
        """Prints the pipeline and each stage as code."""
        print(self.split_gm.code.strip())
        for stage in range(self.num_stages):
            print(f"\n# {get_submod_name(stage)}")
            print(self.get_stage_module(stage).code)

    @staticmethod
    def from_tracing(
        mod: nn.Module,
        example_args: tuple[Any, ...],
        example_kwargs: dict[str, Any] | None = None,
        split_policy: SplitPolicy | None = None,
    ) -> "Pipe":
        """Traces a model for one microbatch and cuts it at its marks.

        Args:
            mod: the model.
            example_args: its positional arguments for one microbatch.
            example_kwargs: its keyword arguments.
            split_policy: puts marks into the traced graph.

        Raises:
            PipeRuntimeError: the model is not one graph.
            PipeValueError: a mark is where no stage can end.
        """
        return Pipe._from_traced(mod, capture(mod, example_args, example_kwargs), split_policy=split_policy)

    @staticmethod
    def _from_traced(
        mod: nn.Module,
        exported_program: ExportedProgram,
        multi_use_param_spec: MultiUseParamSpec | None = None,
        output_loss_value_spec: Any = None,
        split_policy: SplitPolicy | None = None,
    ) -> "Pipe":
        """Cuts an exported model.

        Args:
            mod: the model.
            exported_program: `torch.export.export` of it.
            multi_use_param_spec: what becomes of parameters that several stages use.
            output_loss_value_spec: where the loss is in the model's results: `True` there and `False` elsewhere, in
                containers like theirs. Then a call of the pipe fills `.grad`.
            split_policy: puts marks into the graph.

        Raises:
            PipeNotImplementedError: a parameter is to be transmitted.
            PipeRuntimeError: the loss is not where the specification says.
        """
        check_multi_use(multi_use_param_spec)
        made = cut_model(mod, exported_program, split_policy)
        return _assembled(made.modules, made.wiring, made.calling, output_loss_value_spec, mod.training)

    def __str__(self) -> str:
        return str(self.split_gm)

    def __repr__(self) -> str:
        return repr(self.split_gm)

    def __reduce__(self) -> tuple[Any, ...]:
        stages = [self.get_stage_module(stage) for stage in range(self.num_stages)]
        return _assembled, (stages, self.wiring, self._calling, self.loss_spec, self.training)


def _assembled(
    stages: Sequence[nn.Module],
    wiring: tuple[tuple[Argument, ...], ...],
    calling: Calling,
    loss_spec: Any,
    training: bool,
) -> Pipe:
    """A pipe of its stages; also how one is unpickled."""
    loss = loss_steps(_results_of(stages[-1]), loss_spec)
    graph = pipeline_graph(stages, wiring, calling, loss)
    pipe = Pipe(graph, len(stages), loss is not None, loss_spec, calling, wiring)
    pipe.training = graph.training = training
    return pipe


def _results_of(last: nn.Module) -> Any:
    """The containers of what the last stage returns, with None in them."""
    structure: Any = getattr(last, "_stage_structure", None)
    return None if structure is None else structure.unflatten([None] * structure.num_leaves)


def _not_by_itself(*args: Any, **kwargs: Any) -> None:
    raise PipeRuntimeError("To run pipeline locally, invoke the Pipe object directly, not `split_gm`: call pipe(...).")
