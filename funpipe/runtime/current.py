"""Which GPU is torch's current one while a step is traced, compiled and run.

Types name a kind of device, not its number, and so does the code that is made from them: `device="cuda"` is the GPU
that is current at that moment, and generated kernels belong to the one that was current when they were written.
"""

from contextlib import AbstractContextManager, nullcontext

import torch


def on(device: torch.device | None) -> AbstractContextManager[object]:
    """While open, a GPU is the current one; for any other device nothing changes.

    Args:
        device: where a step's state lives; None: not known.

    Example:
        >>> with on(torch.device("cpu")):
        ...     torch.ones(1)
        tensor([1.])
    """
    return torch.cuda.device(device) if device is not None and device.type == "cuda" else nullcontext()
