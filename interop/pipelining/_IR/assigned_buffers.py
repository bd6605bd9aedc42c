"""Buffers that a submodule assigns to, in a captured graph.

torch.export puts `self.buffer = value` into the graph where the whole model's own code says so, and drops it where a
submodule's does. While this is open, a submodule whose buffer is another tensor after a call writes it into the first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def assigned_buffers(mod: nn.Module) -> Iterator[None]:
    """Within it submodules write assigned buffers back.

    Args:
        mod: the model that is captured.

    Example:
        >>> import torch
        >>> class Calls(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.register_buffer("count", torch.zeros(()))
        ...     def forward(self, x):
        ...         self.count = self.count + 1
        ...         return x
        >>> model = nn.Sequential(Calls())
        >>> count = model[0].count
        >>> with assigned_buffers(model):
        ...     x = model(torch.ones(1))
        >>> count
        tensor(1.)
    """
    handles = []
    for module in mod.modules():
        if module is not mod and any(True for _ in module.buffers(recurse=False)):
            watched = _Watched()
            handles += [module.register_forward_pre_hook(watched.before), module.register_forward_hook(watched.after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Watched:
    """The buffers that a submodule had when it was first called."""

    def __init__(self) -> None:
        self.first: dict[str, Tensor] = {}

    def before(self, module: nn.Module, args: Any) -> None:
        """Notes them."""
        self.first = self.first or dict(module.named_buffers(recurse=False))

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Writes into them what has taken their place; code behind still reads that, with its gradients."""
        for name, value in module.named_buffers(recurse=False):
            if name in self.first and value is not self.first[name]:
                self.first[name].copy_(value.detach())
