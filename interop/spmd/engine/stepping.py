"""An optimizer that steps on shards: the model's parameters are whole, and what it updates are this rank's rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from funpipe.interop.spmd.engine.shards import Shard

Pair = tuple[Tensor, Tensor, Shard]
"""A whole parameter, this rank's rows of it, and which these are."""


@contextmanager
def stepping_on_shards(optimizer: Optimizer, pairs: Sequence[Pair]) -> Iterator[None]:
    """While open, `optimizer.step()` reads the gradients of whole parameters and updates shards.

    Before and after it the optimizer's groups hold the whole parameters, so that `zero_grad` and what the step does
    with gradients mean what they say. After it the whole parameters are gathered again; nothing remains of that in a
    graph where nobody reads them.

    Args:
        optimizer: of the step.
        pairs: the parameters that are sharded.
    """
    if not pairs:
        yield
        return
    shards = {whole: (own, shard) for whole, own, shard in pairs}

    def before(optimizer: Optimizer, *_: Any) -> None:
        for whole, (own, shard) in shards.items():
            own.grad = None if whole.grad is None else shard.own(whole.grad)
        _replace(optimizer, {whole: own for whole, (own, _) in shards.items()})

    def after(optimizer: Optimizer, *_: Any) -> None:
        _replace(optimizer, {own: whole for whole, (own, _) in shards.items()})
        with torch.no_grad():
            for whole, (own, shard) in shards.items():
                whole.copy_(shard.whole(own.detach()))

    hooks = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replace(optimizer: Optimizer, others: dict[Tensor, Tensor]) -> None:
    for group in optimizer.param_groups:
        group["params"] = [others.get(p, p) for p in group["params"]]
