"""What the tests of the front end share."""

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from funpipe.interop.pipelining import Pipe


def stages_of(pipe: Pipe) -> list[nn.Module]:
    """The modules of all stages."""
    return [pipe.get_stage_module(stage) for stage in range(pipe.num_stages)]


def names_of(pipe: Pipe) -> list[list[str]]:
    """The names in the state dict of each stage."""
    return [sorted(stage.state_dict()) for stage in stages_of(pipe)]


def seeded(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A call with fresh random numbers, the same for each."""
    torch.manual_seed(7)
    return call(*args, **kwargs)


def saved_and_loaded(value: Any) -> Any:
    """A value after `torch.save` and `torch.load`."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)
