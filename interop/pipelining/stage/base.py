"""What every stage is: a module, its place in the pipeline, and what it keeps between forward and backward."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from funpipe.interop.pipelining.errors import PipeAssertionError, PipeTypeError
from funpipe.interop.pipelining.stage import messages
from funpipe.interop.pipelining.stage.backward import backward, backward_weight
from funpipe.interop.pipelining.stage.forward import forward
from funpipe.interop.pipelining.stage.handing import gradients_for, take_gradients, take_inputs
from funpipe.interop.pipelining.stage.outputs import flat_tensors
from funpipe.interop.pipelining.stage.place import check_place, in_turns, rank_and_size
from funpipe.interop.pipelining.stage.replicas import refuse_replicas
from funpipe.interop.pipelining.stage.scaling import divide
from funpipe.interop.pipelining.wiring import Argument


class _PipelineStageBase:
    """The common part of manual and traced stages.

    A subclass with an `__init__` of its own need set no more than `submod`, `stage_index`, `num_stages`, `group_size`,
    `group_rank` and `group` to be given to a schedule.

    Args:
        submodule: the stage's module; its parameters' `.grad` are filled.
        stage_index: which stage it is, from 0.
        num_stages: how many stages the pipeline has.
        device: where the stage's tensors are received.
        group: the processes of the pipeline; None: all, or this one alone if no process group was started.
        dw_builder: called after each backward of a stage's input, returns what computes the gradients of the weights.

    Raises:
        PipeValueError: there is no such stage.
        PipeRuntimeError: more processes than stages.
        PipeNotImplementedError: the module reduces its own gradients over replicas.
    """

    wiring: tuple[Argument, ...] | None = None
    pipeline_wiring: tuple[tuple[Argument, ...], ...] | None = None
    inputs_meta: tuple[torch.Tensor, ...] | None = None
    outputs_meta: tuple[torch.Tensor, ...] | None = None
    output_grads_meta: tuple[torch.Tensor | None, ...] | None = None
    input_grads_meta: tuple[torch.Tensor | None, ...] | None = None
    dw_builder: Callable[[], Callable[..., None]] | None = None
    device = torch.device("cpu")
    _has_backward = False
    _runtime_validate = False

    def __init__(
        self,
        submodule: torch.nn.Module,
        stage_index: int,
        num_stages: int,
        device: torch.device,
        group: dist.ProcessGroup | None = None,
        dw_builder: Callable[[], Callable[..., None]] | None = None,
    ) -> None:
        self.group_rank, self.group_size = rank_and_size(group)
        check_place(stage_index, num_stages, self.group_size)
        refuse_replicas(submodule)
        self.submod = submodule
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.device = torch.device(device)
        self.group = group
        self.dw_builder = dw_builder
        self.stage_index_to_group_rank = in_turns(num_stages, self.group_size)
        self.clear_runtime_states()

    def clear_runtime_states(self) -> None:
        """Forgets everything of the last step."""
        # By microbatch: the flat outputs and the inputs; the inputs from other stages; the gradients of the outputs by
        # the stage that read them; the gradients of the inputs; what the weights' part of the backward needs.
        self.fwd_cache: dict[int, tuple[tuple[torch.Tensor, ...], list[Any]]] = {}
        self.received: dict[int, dict[Argument, torch.Tensor]] = {}
        self.arrived: dict[int, dict[int, dict[int, torch.Tensor | None]]] = {}
        self.bwd_cache: dict[int, dict[Argument, torch.Tensor | None]] = {}
        self.backward_state: dict[int, tuple[list[torch.Tensor], list[dict[str, Any]]]] = {}
        self.dw_runner: dict[int, Callable[..., None]] = {}
        self.output_chunks: list[Any] = []

    @property
    def log_prefix(self) -> str:
        """How errors name the stage."""
        return f"[Stage {self.stage_index}]"

    @property
    def is_first(self) -> bool:
        """Whether no stage is before it."""
        return self.stage_index == 0

    @property
    def is_last(self) -> bool:
        """Whether no stage is after it."""
        return self.stage_index == self.num_stages - 1

    @property
    def has_backward(self) -> bool:
        """Whether a backward follows the forward; schedules set it before a step."""
        return self._has_backward

    @has_backward.setter
    def has_backward(self, value: bool) -> None:
        self._has_backward = value

    def forward_one_chunk(
        self,
        fwd_chunk_id: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        save_forward_output: bool = True,
    ) -> Any:
        """Runs the forward of one microbatch; later stages get what they were handed or received.

        Args:
            fwd_chunk_id: the microbatch.
            args: the first stage's positional arguments, of any type; a traced model's where the stage reads some.
            kwargs: keywords for the stage's module; a traced model's.
            save_forward_output: whether the last stage keeps the output in `output_chunks`.

        Returns:
            What the module returned, of any structure.

        Raises:
            PipeRuntimeError: an input is missing, or the module raised.
        """
        return forward(self, fwd_chunk_id, args, kwargs or {}, save_forward_output)

    def forward_maybe_with_nosync(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the module."""
        return self.submod(*args, **kwargs)

    def backward_one_chunk(
        self, bwd_chunk_id: int, loss: Any = None, full_backward: bool = True, last_backward: bool = False
    ) -> None:
        """Runs the backward of one microbatch, or the part of it that other stages wait for.

        Args:
            bwd_chunk_id: the microbatch.
            loss: its loss, on the last stage.
            full_backward: False: the weights' gradients come later, by `backward_weight_one_chunk`.
            last_backward: accepted and not used; nothing here depends on it.

        Raises:
            PipeRuntimeError: there was no forward, no loss or no gradient of this microbatch, or autograd failed.
        """
        if self.has_backward:
            backward(self, bwd_chunk_id, loss, full_backward)

    def backward_weight_one_chunk(self, bwd_chunk_id: int, last_backward: bool = False) -> None:
        """Adds the gradients of the weights that `backward_one_chunk(full_backward=False)` left.

        Raises:
            PipeAssertionError: it was not called for this microbatch.
        """
        if self.has_backward:
            backward_weight(self, bwd_chunk_id)

    def set_local_fwd_input(self, prev_stage_outputs: Any, mb_index: int) -> None:
        """Hands over what the stage before, in this process, returned; no message is sent."""
        take_inputs(self, mb_index, self.stage_index - 1, dict(enumerate(flat_tensors(prev_stage_outputs))))

    def get_local_bwd_output(self, mb_index: int) -> tuple[torch.Tensor | None, ...]:
        """The gradients of what the stage before returned, one for each of its flat outputs; handed out once.

        Raises:
            PipeAssertionError: nothing is before this stage, or it has no backward.
        """
        if self.is_first or not self.has_backward:
            reason = "this stage is first" if self.is_first else "has_backward is False"
            raise PipeAssertionError(
                f"{self.log_prefix} can't get bwd output if {reason}; ask a later stage, in a step that trains"
            )
        gradients = gradients_for(self, mb_index, self.stage_index - 1)
        return tuple(gradients.get(index) for index in range(max(gradients, default=-1) + 1))

    def set_local_bwd_input(self, next_stage_bwd_outputs: tuple[torch.Tensor | None, ...], mb_index: int) -> None:
        """Hands over the gradients that the stage after, in this process, has for this one's outputs.

        Raises:
            PipeAssertionError: nothing is after this stage.
            PipeTypeError: they are no tuple.
        """
        if self.is_last:
            raise PipeAssertionError(
                f"{self.log_prefix} can't set bwd input if this stage is last; its backward takes a loss"
            )
        if not isinstance(next_stage_bwd_outputs, tuple):
            raise PipeTypeError(
                f"{self.log_prefix} got gradients as a {type(next_stage_bwd_outputs).__name__}; pass a tuple"
            )
        take_gradients(self, mb_index, self.stage_index + 1, dict(enumerate(next_stage_bwd_outputs)))

    def get_fwd_recv_ops(self, fwd_chunk_id: int) -> list[dist.P2POp]:
        """What receives the inputs of one microbatch; none for stages of this process."""
        return messages.receive_inputs(self, fwd_chunk_id)

    def get_fwd_send_ops(self, fwd_chunk_id: int) -> list[dist.P2POp]:
        """What sends the outputs of one microbatch; none for stages of this process."""
        return messages.send_outputs(self, fwd_chunk_id)

    def get_bwd_recv_ops(self, bwd_chunk_id: int) -> list[dist.P2POp]:
        """What receives the gradients of one microbatch's outputs, after its forward."""
        return messages.receive_gradients(self, bwd_chunk_id) if self.has_backward else []

    def get_bwd_send_ops(self, bwd_chunk_id: int) -> list[dist.P2POp]:
        """What sends the gradients of one microbatch's inputs, after its backward."""
        return messages.send_gradients(self, bwd_chunk_id) if self.has_backward else []

    def scale_grads(self, grad_scale_factor: int) -> None:
        """Divides the parameters' `.grad` by a number, in place."""
        if grad_scale_factor != 1:
            divide(self.submod.parameters(), grad_scale_factor)

    def perform_reduce_grad(self, grad_scale_factor: int) -> None:
        """What is done to the gradients at the end of a step: they are scaled."""
        self.scale_grads(grad_scale_factor)
