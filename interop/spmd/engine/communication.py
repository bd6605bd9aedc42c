"""What moves the tensors of a step: funpipe's transport between the ranks of the process group there is."""

import weakref

import torch
import torch.distributed as dist

import funpipe as fp
from funpipe.functional.communication import Communicator
from funpipe.runtime import transport_of
from funpipe.runtime.communicator import TransportCommunicator

_made: weakref.WeakKeyDictionary[dist.ProcessGroup, Communicator] = weakref.WeakKeyDictionary()
"""One for each process group, because the ranks of a group count their messages together."""


def communicator_on(device: torch.device) -> Communicator:
    """The communicator of the default process group; the first call for a group is one that all its ranks make.

    Args:
        device: of the tensors.

    Returns:
        One that reaches all ranks; without a process group one of this process alone.
    """
    group = dist.group.WORLD if dist.is_initialized() else None
    if group is None:
        return TransportCommunicator()
    if group not in _made:
        mesh = fp.mesh(pp=1, dp=dist.get_world_size(), device=device)
        _made[group] = TransportCommunicator(transport_of(mesh))
    return _made[group]


def ranks() -> tuple[int, int]:
    """This process's rank and the number of ranks; 0 and 1 without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
