"""Modules that reduce their own gradients over replicas, which a pipeline of microbatches cannot leave to them."""

import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from funpipe.interop.pipelining.errors import PipeNotImplementedError


def refuse_replicas(module: torch.nn.Module) -> None:
    """Refuses a module that is, or holds, a DistributedDataParallel or a fully sharded one.

    Raises:
        PipeNotImplementedError: it does.
    """
    for name, part in module.named_modules():
        if isinstance(part, _wrappers()):
            where = f"submodule {name!r} of a stage" if name else "a stage's module"
            raise PipeNotImplementedError(
                f"{where} is a {type(part).__name__}, whose hooks would reduce the gradients of each microbatch; "
                "pass the plain module, and after the step reduce gradients over replicas with "
                "torch.distributed.all_reduce(p.grad) for each parameter"
            )


def _wrappers() -> tuple[type, ...]:
    """The classes that wrap; nobody has a fully sharded module who has not imported its package."""
    sharded = sys.modules.get("torch.distributed.fsdp")
    names = ("FullyShardedDataParallel", "FSDPModule") if sharded else ()
    return (DistributedDataParallel, *(getattr(sharded, name) for name in names if hasattr(sharded, name)))
