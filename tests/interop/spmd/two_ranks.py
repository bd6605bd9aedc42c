"""Training steps on two ranks with a batch of their own each, compared with DistributedDataParallel."""

import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, fx, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from funpipe.interop.spmd.api import Override, _override_placements, compile
from funpipe.interop.spmd.gm_transformation import GraphModuleTransformation
from funpipe.interop.spmd.graph_optimization import (
    comm_fusion_with_concat,
    get_all_fused_optimizer_blocks,
    iter_move_grads_and_optimizers,
    remove_copy_from_optimizer,
    schedule_comm_wait,
    split_fused_optimizer,
)
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from funpipe.interop.spmd.parallel_mode import DataParallel
from tests.interop.spmd.models import Layers, Make, adam, train_step
from tests.interop.spmd.moving import updates_moved

STEPS = 5


@dataclass(frozen=True)
class Scenario:
    """What is trained.

    Args:
        make: the optimizer.
        layers, dim: of the model.
        transformation: of the graph.
        style: of data parallelism; None: the default mode, which sums gradients.
        warm: whether an eager step comes first.
        decay: what the learning rate is multiplied with before each step.
        ddp: another optimizer for DistributedDataParallel.
    """

    make: Make
    layers: int = 2
    dim: int = 16
    transformation: Callable[[fx.GraphModule], Any] | None = None
    style: str | None = None
    warm: bool = True
    decay: float = 1.0
    ddp: Make | None = None


def split(gm: fx.GraphModule) -> IterGraphModule:
    """Splits the update in two."""
    moved = IterGraphModule(gm)
    remove_copy_from_optimizer(moved)
    block = get_all_fused_optimizer_blocks(moved, "_fused_adam")[0]
    gradients = block.optim.optim_node.args[1]
    split_fused_optimizer(moved, block, {gradients[1], gradients[2]})
    moved.graph.eliminate_dead_code()
    moved.recompile()
    assert len(get_all_fused_optimizer_blocks(moved, "_fused_adam")) == 2
    moved.finalize_setup()
    return moved


def bucket_moved(gm: fx.GraphModule) -> IterGraphModule:
    """Moves the second bucket and its update into the next step, past the first layer."""
    moved = IterGraphModule(gm)
    comm_fusion_with_concat(moved, 2)
    schedule_comm_wait(moved)
    remove_copy_from_optimizer(moved)
    iter_move_grads_and_optimizers(moved, "all_reduce_default_1", "relu")
    moved.finalize_setup()
    return moved


def sgd(**options: Any) -> Make:
    return lambda params: torch.optim.SGD(params, lr=0.01, **options)


FUSED, FOREACH = adam(fused=True), adam(foreach=True)
OPTIMIZED = GraphModuleTransformation(enable_graph_optimization=True)
# Of this width the first bucket of a mebibyte holds one layer, as in wide models.
WIDE = 520
SUMMED = {
    "basic transformation": Scenario(FOREACH, 10, transformation=GraphModuleTransformation()),
    "graph optimization, foreach": Scenario(FOREACH, dim=WIDE, transformation=OPTIMIZED),
    "graph optimization, fused": Scenario(FUSED, dim=WIDE, transformation=OPTIMIZED),
    "split": Scenario(FUSED, transformation=split),
    "a bucket moved": Scenario(FUSED, 5, WIDE, transformation=bucket_moved),
    "all descendants moved, no state yet": Scenario(FUSED, transformation=updates_moved(), warm=False, decay=0.5),
    "all descendants, not recompiled": Scenario(FUSED, transformation=updates_moved("relu", final=False)),
    "all descendants moved": Scenario(FUSED, transformation=updates_moved()),
    "foreach, no state yet": Scenario(FOREACH, warm=False, decay=0.5),
    "capturable": Scenario(adam(foreach=True, capturable=True), warm=False, ddp=FOREACH),
    "adamw": Scenario(lambda params: torch.optim.AdamW(params, fused=True)),
    "sgd": Scenario(sgd(momentum=0.9), warm=False),
    "sgd, fused": Scenario(sgd(momentum=0.9, fused=True), decay=0.5),
}
MEAN = {
    "replicate, fused": Scenario(FUSED, style="replicate"),
    "replicate, all descendants moved": Scenario(FUSED, style="replicate", transformation=updates_moved()),
    "replicate, foreach, no state yet": Scenario(FOREACH, style="replicate", warm=False),
    "replicate, sgd": Scenario(sgd(), style="replicate"),
    "shard, fused": Scenario(FUSED, style="fully_shard"),
    "shard, no state yet": Scenario(FUSED, style="fully_shard", warm=False),
    "shard, sgd": Scenario(sgd(), style="fully_shard"),
    "shard, momentum": Scenario(sgd(momentum=0.9), style="fully_shard"),
    "shard, momentum, foreach": Scenario(sgd(momentum=0.9, foreach=True), style="fully_shard"),
    "shard, rows that do not divide": Scenario(FUSED, dim=7, style="fully_shard"),
}


def parameters_of(model: nn.Module) -> list[Tensor]:
    """The parameters, whole."""
    return [p.full_tensor() if isinstance(p, DTensor) else p.detach() for p in model.parameters()]


def difference(scenario: Scenario) -> tuple[float, float]:
    """The largest difference of a parameter after five steps, and how far they went.

    The ranks' batches differ. In the default mode gradients are sums, so DistributedDataParallel's are multiplied.
    """
    torch.manual_seed(0)
    model = Layers(scenario.layers, scenario.dim)
    ddp = DistributedDataParallel(deepcopy(model))
    optimizer, other = scenario.make(model.parameters()), (scenario.ddp or scenario.make)(ddp.parameters())
    if scenario.warm:
        x = torch.randn(10, scenario.dim)
        train_step(model, optimizer, x)
        train_step(ddp, other, x)
    started = [p.detach().clone() for p in ddp.parameters()]
    _train(scenario, (model, optimizer), (ddp, other))
    pairs = zip(parameters_of(model), ddp.parameters(), strict=True)
    moved = max((p - q).abs().max().item() for p, q in zip(started, ddp.parameters(), strict=True))
    return max((p - q).abs().max().item() for p, q in pairs), moved


def _train(scenario: Scenario, mine: tuple[nn.Module, Optimizer], its: tuple[nn.Module, Optimizer]) -> None:
    mode = DataParallel(scenario.style) if scenario.style else None
    step = compile(gm_transformation=scenario.transformation, parallel_mode=mode)(train_step)
    scale = 1 if scenario.style else dist.get_world_size()
    torch.manual_seed(1 + dist.get_rank())
    for i in range(STEPS):
        x = torch.randn(10, scenario.dim)
        for group in (*mine[1].param_groups, *its[1].param_groups):
            group["lr"] *= scenario.decay
        step(*mine, x, **({"last_train_step": True} if i == STEPS - 1 else {}))
        its[0](x).sum().backward()
        for p in its[0].parameters():
            p.grad = None if p.grad is None else p.grad * scale
        its[1].step()
        its[1].zero_grad()


def differences(names: Iterable[str]) -> dict[str, Any]:
    """What every scenario gives, or the error it ends with; runs on each rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: difference({**SUMMED, **MEAN}[name]) for name in names} | {
            name: check() for name, check in CHECKS.items()
        }


class Sees(Override):
    """Counts the collectives of the graph."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def replacement(self, fqn: str, orig_submodule: nn.Module) -> nn.Module:
        return orig_submodule

    def transform(self, gm: fx.GraphModule, flat_state: list[Tensor]) -> fx.GraphModule:
        for name in ("all_reduce", "all_gather", "reduce_scatter"):
            self.counts[name] = sum(node.name.startswith(name) for node in gm.graph.nodes)
        return gm


def _model() -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = Layers(2, 8)
    return model, FUSED(model.parameters())


def _one_all_reduce() -> Any:
    """A model of one parameter has one all-reduce."""
    sees, model = Sees(), nn.Linear(8, 8, bias=False)
    compile(module_override=[sees])(train_step)(model, FUSED(model.parameters()), torch.zeros(2, 8))
    return sees.counts["all_reduce"]


def _sharded_collectives() -> Any:
    """Each parameter is gathered once and its gradient scattered once, and what lies on a rank is half."""
    sees = Sees()
    model, optimizer = _model()
    compile(module_override=[sees], parallel_mode=DataParallel("fully_shard"))(train_step)(
        model, optimizer, torch.ones(2, 8)
    )
    weight = model.mod[0].weight
    moments = optimizer.state[weight]["exp_avg"]
    return sees.counts, tuple(weight.to_local().shape), tuple(moments.to_local().shape), tuple(weight.shape)


def _read_while_open() -> Any:
    """With several ranks, reading the state is an error until all of them have completed the work."""
    model, optimizer = _model()
    step = compile(gm_transformation=updates_moved())(train_step)
    step(model, optimizer, torch.ones(2, 8))
    found = []
    for read in (model.state_dict, model.state_dict, optimizer.state_dict):
        try:
            read()
        except RuntimeError as error:
            found.append(str(error))
    step.flush()
    return found, len(model.state_dict())


def _returned_gradients() -> Any:
    """Gradients that a step returns are the sum of the ranks'."""

    def step(model: nn.Module, x: Tensor) -> list[Tensor]:
        model(x).sum().backward()
        return [p.grad for p in model.parameters()]

    model, _ = _model()
    x = torch.full((2, 8), 1.0 + dist.get_rank())
    found = compile()(step)(model, x)
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for rank in range(2):
        own = torch.autograd.grad(model(torch.full((2, 8), 1.0 + rank)).sum(), list(model.parameters()))
        expected = [a + b for a, b in zip(expected, own, strict=True)]
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


def _replicated_argument() -> Any:
    """Gradients of what all ranks have alike are not summed."""
    model, optimizer = _model()
    other, own = _model()
    x = torch.ones(2, 8)
    with _override_placements(x, [Replicate()]), nullcontext():
        compile()(train_step)(model, optimizer, x)
    train_step(other, own, x)
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def _narrow_shards() -> Any:
    """A parameter of one row lies on the first rank, and both ranks go on."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = sgd()(model.parameters())
    step = compile(parallel_mode=DataParallel("fully_shard"))(train_step)
    for _ in range(2):
        step(model, optimizer, torch.full((2, 4), 1.0 + dist.get_rank()))
    # The mean over ranks of the gradient of the sum of two rows, at a rate of 0.01, twice.
    torch.manual_seed(0)
    return (nn.Linear(4, 1).weight - model.weight.full_tensor()).sub(2 * 0.01 * 3.0).abs().max().item()


def _other_style() -> Any:
    """A model is distributed in one way."""
    model, optimizer = _model()
    compile(parallel_mode=DataParallel("fully_shard"))(train_step)(model, optimizer, torch.ones(2, 8))
    try:
        compile(parallel_mode=DataParallel("replicate"))(train_step)(model, optimizer, torch.ones(2, 8))
    except RuntimeError as error:
        return str(error)
    return ""


def _gradients_left_on_shards() -> Any:
    """Gradients that a step leaves are each rank's rows, and add up if nobody clears them."""

    def step(model: nn.Module, optimizer: Optimizer, x: Tensor) -> None:
        model(x).sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    ddp = DistributedDataParallel(deepcopy(model))
    optimizer, other = sgd()(model.parameters()), sgd()(ddp.parameters())
    compiled = compile(parallel_mode=DataParallel("fully_shard"))(step)
    for _ in range(3):
        x = torch.full((2, 8), 1.0 + dist.get_rank())
        compiled(model, optimizer, x)
        step(ddp, other, x)
    gradients = [p.grad.full_tensor() for p in model.parameters()]
    pairs = [*zip(parameters_of(model), ddp.parameters(), strict=True)]
    pairs += zip(gradients, [p.grad for p in ddp.parameters()], strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def _clipped_shards() -> Any:
    """The norm of gradients is that of whole ones, also where parameters are sharded."""

    def step(model: nn.Module, optimizer: Optimizer, x: Tensor) -> Tensor:
        model(x).sum().backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        return norm

    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    ddp = DistributedDataParallel(deepcopy(model))
    x = torch.full((2, 8), 1.0 + dist.get_rank())
    optimizer = sgd()(model.parameters())
    norms = (
        compile(parallel_mode=DataParallel("fully_shard"))(step)(model, optimizer, x),
        step(ddp, sgd()(ddp.parameters()), x),
    )
    pairs = [norms, *zip(parameters_of(model), ddp.parameters(), strict=True)]
    return max((a - b).abs().max().item() for a, b in pairs)


def _second_dimension() -> Any:
    """The batch may be any dimension of the inputs."""

    class Mixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).sum(0) * torch.arange(8.0)

    torch.manual_seed(0)
    model = Mixes()
    ddp = DistributedDataParallel(deepcopy(model))
    x = torch.full((3, 2, 8), 1.0 + dist.get_rank())
    mode = DataParallel("fully_shard", input_batch_dim=1)
    compile(parallel_mode=mode)(train_step)(model, FUSED(model.parameters()), x)
    train_step(ddp, FUSED(ddp.parameters()), x)
    pairs = zip(parameters_of(model), ddp.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


CHECKS: dict[str, Callable[[], Any]] = {
    "one all-reduce": _one_all_reduce,
    "sharded collectives": _sharded_collectives,
    "read while open": _read_while_open,
    "returned gradients": _returned_gradients,
    "replicated argument": _replicated_argument,
    "narrow shards": _narrow_shards,
    "other style": _other_style,
    "gradients left on shards": _gradients_left_on_shards,
    "clipped shards": _clipped_shards,
    "second dimension": _second_dimension,
}
