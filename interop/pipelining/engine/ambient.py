"""What surrounds a call and decides what is traced."""

from typing import Any

import torch


def ambient(device: torch.device) -> tuple[Any, ...]:
    """A key of torch's modes in which a call is made: automatic casts and the default type.

    Args:
        device: of the stages.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     inside = ambient(torch.device("cpu"))
        >>> inside == ambient(torch.device("cpu"))
        False
    """
    kind = device.type
    casts = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return casts, torch.get_default_dtype()
