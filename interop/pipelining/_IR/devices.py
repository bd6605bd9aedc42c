"""Devices that a model's code names, in the graph of a stage."""

from typing import Any

import torch
from torch import nn
from torch.fx.node import map_aggregate

from funpipe.interop.pipelining._IR.regions import under_autocast
from funpipe.interop.pipelining._IR.stage_module import StageModule


def move_graph(module: nn.Module, device: torch.device) -> None:
    """Has a stage make its tensors on another device, in place.

    Args:
        module: a stage's module; its parameters and buffers stay where they are.
        device: where to.
    """
    for part in module.modules():
        if isinstance(part, StageModule):
            graph = part.graph
            for node in graph.nodes:
                node.args, node.kwargs = map_aggregate(node.args, _to(device)), map_aggregate(node.kwargs, _to(device))  # type: ignore[assignment]
                if node.target is under_autocast:
                    node.update_arg(0, device.type)
            part._stage_set(graph)


def _to(device: torch.device) -> Any:
    return lambda value: device if isinstance(value, torch.device) else value
