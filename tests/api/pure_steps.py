"""Pure steps with collectives on two processes, and what torch's own data parallel makes of the same batches."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import funpipe as fp

RATE = 0.05
STEPS = 5


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))


def batches(rank: int) -> list[tuple[Tensor, Tensor]]:
    """One for each step, others on each rank."""
    generator = torch.Generator().manual_seed(100 + rank)
    return [(torch.randn(8, 16, generator=generator), torch.randn(8, 4, generator=generator)) for _ in range(STEPS)]


APPLY, PARAMS, _ = fp.functionalize(network())


def loss(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(APPLY(params, {}, batch[0])[0], batch[1])


def plain_step(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> tuple[Any, Any]:
    """The descent of `torch.optim.SGD`, in its own operator."""
    grads, value = torch.func.grad_and_value(loss)(params, batch)
    mean = fp.pmean(grads, "dp")
    return {n: torch.add(p, mean[n], alpha=-RATE) for n, p in params.items()}, {"loss": fp.pmean(value, "dp")}


ADAM = fp.optim.adam(RATE)


def adam_step(state: dict[str, Any], batch: tuple[Tensor, Tensor]) -> tuple[Any, Any]:
    grads = fp.pmean(torch.func.grad(loss)(state["params"], batch), "dp")
    params, slots = fp.optim.apply(ADAM, state["params"], grads, state["slots"], state["step"])
    return {"params": params, "slots": slots, "step": state["step"] + 1}, {}


def sharded_step(state: dict[str, Any], batch: tuple[Tensor, Tensor]) -> tuple[Any, Any]:
    """Each rank keeps half of the rows of every leaf, of its gradient and of the optimizer's state."""
    grads = torch.func.grad(lambda p: loss(fp.all_gather(p, "dp"), batch))(state["params"])
    mean = {n: g / fp.axis_size("dp") for n, g in grads.items()}
    params, slots = fp.optim.apply(ADAM, state["params"], mean, state["slots"], state["step"])
    return {"params": params, "slots": slots, "step": state["step"] + 1}, {}


def adam_state(params: dict[str, Tensor]) -> dict[str, Any]:
    return {"params": params, "slots": ADAM.init(params), "step": torch.tensor(0)}


def trained(step: Any, state: Any, mesh: fp.Mesh, backend: str) -> Any:
    """The state after all batches of this rank, and the last step's results."""
    given = batches(mesh.dp_rank)
    run = fp.compile_step(fp.trace_step(step, state, given[0], mesh=mesh), mesh=mesh, backend=backend)
    aux = None
    for batch in given:
        state, aux = run(state, batch)
    return state, aux


def by_torch(optimizer: type[torch.optim.Optimizer], rank: int) -> dict[str, Tensor]:
    """The parameters that DistributedDataParallel has after the same batches."""
    model = DistributedDataParallel(network())
    update = optimizer(model.parameters(), lr=RATE)
    for x, y in batches(rank):
        update.zero_grad()
        F.mse_loss(model(x), y).backward()
        update.step()
    return {n: p.detach().clone() for n, p in model.module.named_parameters()}


def start() -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in network().named_parameters()}


def compare() -> dict[str, Any]:
    """What each way gives on this rank, for the test to compare."""
    mesh = fp.mesh(pp=1, dp=2, device="cpu", timeout=60)
    sharded = trained(sharded_step, adam_state(fp.shard(start(), mesh)), mesh, "interpret")[0]["params"]
    return {
        "ddp sgd": by_torch(torch.optim.SGD, mesh.dp_rank),
        "ddp adam": by_torch(torch.optim.Adam, mesh.dp_rank),
        "plain": trained(plain_step, start(), mesh, "interpret"),
        "adam": trained(adam_step, adam_state(start()), mesh, "interpret")[0]["params"],
        "sharded": sharded,
        "unsharded": fp.unshard(sharded, mesh),
    }


def compare_compiled() -> tuple[Any, Any]:
    """The plain step compiled, and by torch."""
    mesh = fp.mesh(pp=1, dp=2, device="cpu", timeout=60)
    return trained(plain_step, start(), mesh, "step")[0], by_torch(torch.optim.SGD, mesh.dp_rank)
