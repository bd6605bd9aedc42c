"""Waiting for the other ranks and for the device, so that a timing holds all of a step."""

import torch
import torch.distributed as dist


def meet() -> None:
    """Returns once every rank has called it and this process's GPU, if it uses one, is idle."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()
