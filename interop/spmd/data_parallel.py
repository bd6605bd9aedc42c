"""The state of a data-parallel step: parameters and optimizer state as distributed tensors."""

from collections.abc import Mapping
from enum import Enum

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.optim import Optimizer

from funpipe.interop.spmd.engine.communication import ranks
from funpipe.interop.spmd.engine.shards import Shard as Rows
from funpipe.interop.spmd.errors import SpmdRuntimeError


class DataParallelStyle(Enum):
    """What each rank has of the state."""

    DEFAULT = "default"
    REPLICATE = "replicate"
    FULLY_SHARD = "fully_shard"


def distributed_state(model: nn.Module, optimizer: Optimizer | None, style: DataParallelStyle) -> Mapping[str, Rows]:
    """Makes parameters and optimizer state distributed tensors, in place; those that are stay what they are.

    The parameters become other objects, in the model and in the optimizer. They have to be equal on all ranks before.

    Args:
        model: of the step.
        optimizer: of the step, if it has one.
        style: what each rank has of them. Tensors without dimensions are whole on each.

    Returns:
        The rows that this rank has of sharded parameters, by name.

    Raises:
        SpmdRuntimeError: there is no process group, or the parameters are distributed in another way.
    """
    if not dist.is_initialized():
        raise SpmdRuntimeError(
            "DataParallel needs a process group: call torch.distributed.init_process_group first, in a program that "
            "torchrun or fp.launch started."
        )
    others: dict[Tensor, Tensor] = {}
    for name, param in model.named_parameters():
        others[param] = _distributed_parameter(name, param, style)
    _put(model, others)
    if optimizer is not None:
        _put_into(optimizer, others)
    rank, size = ranks()
    sharded = ((n, p) for n, p in model.named_parameters() if _placement(p, style) == Shard(0))
    return {name: Rows(param.shape[0], rank, size) for name, param in sharded}


def _placement(tensor: Tensor, style: DataParallelStyle) -> Placement:
    return Shard(0) if style is DataParallelStyle.FULLY_SHARD and tensor.dim() > 0 else Replicate()


def _distributed_parameter(name: str, param: Tensor, style: DataParallelStyle) -> Tensor:
    placement = _placement(param, style)
    if not isinstance(param, DTensor):
        return nn.Parameter(_distributed(param.detach(), placement), requires_grad=param.requires_grad)
    if param.placements != (placement,):
        raise SpmdRuntimeError(
            f"{name} is distributed as {param.placements}, and style {style.value!r} wants {(placement,)}: compile the "
            "steps of one model with one style."
        )
    return param


def _distributed(whole: Tensor, placement: Placement) -> DTensor:
    """What this rank keeps of a tensor that is equal on all; nothing is sent."""
    rank, size = ranks()
    local = whole
    if isinstance(placement, Shard):
        low, high = Rows(whole.shape[0], rank, size).bounds
        local = whole[low:high].clone()
    return DTensor.from_local(
        local, _mesh(whole.device), (placement,), run_check=False, shape=whole.shape, stride=whole.stride()
    )


def _mesh(device: torch.device) -> DeviceMesh:
    return init_device_mesh(device.type, (dist.get_world_size(),))


def _put(model: nn.Module, others: Mapping[Tensor, Tensor]) -> None:
    for module in model.modules():
        for name, param in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if others[param] is not param:
                setattr(module, name, others[param])


def _put_into(optimizer: Optimizer, others: Mapping[Tensor, Tensor]) -> None:
    for group in optimizer.param_groups:
        group["params"] = [others.get(p, p) for p in group["params"]]
    for param in [p for p in optimizer.state if others.get(p, p) is not p]:
        state = optimizer.state.pop(param)
        optimizer.state[others[param]] = {key: _state_like(value, others[param]) for key, value in state.items()}


def _state_like(value: object, param: Tensor) -> object:
    """State of a parameter's shape lies as the parameter does; a count of steps is each rank's own."""
    if isinstance(value, Tensor) and isinstance(param, DTensor) and value.shape == param.shape and value.dim() > 0:
        return _distributed(value, param.placements[0])
    return value
