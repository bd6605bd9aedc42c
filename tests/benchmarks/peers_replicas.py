"""Two replicas as torch runs them: DistributedDataParallel, eager and compiled, and fully sharded; Adam fused."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.benchmarks.replicas import LEARNING_RATE, Perceptron
from tests.benchmarks.steps import Peer, Read


class Trainer:
    """A training step of a module that reduces its gradients itself.

    Args:
        case: the batch.
        run: the module, wrapped.
        module: the module, for its parameters.
    """

    def __init__(self, case: Perceptron, run: Callable[[Tensor], Tensor], module: nn.Module) -> None:
        self.run, self.module = run, module
        self.x, self.y = case.batch(dist.get_rank())
        self.optimizer = torch.optim.Adam(module.parameters(), LEARNING_RATE, fused=True)

    def __call__(self) -> Read:
        loss = nn.functional.mse_loss(self.run(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item

    def parameters(self) -> dict[str, Tensor]:
        """The whole parameters by name, as they are."""
        return {n: whole(p.detach()).clone() for n, p in self.module.named_parameters()}


def whole(parameter: Tensor) -> Tensor:
    """A parameter, put together from the ranks' shards."""
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter  # type: ignore[attr-defined]


def replicated(case: Perceptron, compiled: bool) -> Trainer:
    """DistributedDataParallel, in the faster of its settings: gradients lie in its buckets."""
    torch.set_num_threads(1)
    module = case.model()
    wrapped = DistributedDataParallel(module, gradient_as_bucket_view=True)
    return Trainer(case, torch.compile(wrapped) if compiled else wrapped, module)


def sharded(case: Perceptron, layers: int) -> Trainer:
    """Fully sharded: so many layers are gathered at a time."""
    torch.set_num_threads(1)
    module = case.model()
    parts = list(module)
    for group in _groups(parts, 2 * layers):
        fully_shard(group)
    fully_shard(module)
    return Trainer(case, module, module)


def _groups(parts: list[nn.Module], size: int) -> Iterable[list[nn.Module]]:
    return (parts[i : i + size] for i in range(0, len(parts), size)) if size < len(parts) else ()


def peers(case: Perceptron) -> list[Peer]:
    """What a step is measured against; of the ways to shard the faster one."""
    return [
        Peer("DDP, fused Adam", partial(replicated, case, False)),
        Peer("DDP + torch.compile", partial(replicated, case, True)),
        Peer("FSDP2, four layers at a time", partial(sharded, case, 4), "FSDP2"),
        Peer("FSDP2, all at once", partial(sharded, case, case.layers), "FSDP2"),
    ]
