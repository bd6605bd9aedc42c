"""The modes in which a module was called: they are part of what it computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Modes:
    """Whether each part of a module trains, and autocast.

    Args:
        training: of each submodule.
        autocast: the dtype of autocast, by device type; only where it is on.
    """

    training: tuple[tuple[nn.Module, bool], ...]
    autocast: tuple[tuple[str, torch.dtype], ...]

    @staticmethod
    def of(module: nn.Module, device: str) -> "Modes":
        """The modes now.

        Args:
            module: the module.
            device: the device type that it runs on.
        """
        on = torch.is_autocast_enabled(device)
        cast = ((device, torch.get_autocast_dtype(device)),) if on else ()
        return Modes(tuple((m, m.training) for m in module.modules()), cast)

    @contextmanager
    def again(self) -> Iterator[None]:
        """While open, these are the modes; afterwards the module is as it was."""
        changed = [(m, flag) for m, flag in self.training if m.training != flag]
        for module, flag in changed:
            module.training = flag
        try:
            device, dtype = self.autocast[0] if self.autocast else ("cpu", None)
            with torch.autocast(device, dtype=dtype, enabled=bool(self.autocast)):
                yield
        finally:
            for module, flag in changed:
                module.training = not flag
