"""Traced training steps of a small model, as `compile` gives them to a transformation, for tests in one process."""

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.functional.communication import OPERATORS, communicating

DIM = 8


def model(layers: int = 3, dim: int = DIM) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(module for _ in range(layers) for module in (nn.Linear(dim, dim), nn.ReLU())))


def reduced(gradient: Tensor) -> Tensor:
    return OPERATORS.wait_tensor(OPERATORS.all_reduce(gradient.contiguous(), "sum", "dp"))


def traced(layers: int = 3, dim: int = DIM) -> fx.GraphModule:
    """A step of fused Adam: parameters, two slots and a count of steps for each, and a batch come in."""
    net = model(layers, dim)
    names = [name for name, _ in net.named_parameters()]

    def step(*flat: Tensor) -> list[Tensor]:
        params, firsts, seconds, counts = (list(flat[i * len(names) : (i + 1) * len(names)]) for i in range(4))
        leaves = [p.detach().requires_grad_() for p in params]
        with torch.enable_grad():
            loss = torch.func.functional_call(net, dict(zip(names, leaves, strict=True)), flat[-1]).sum()
        gradients = torch.autograd.grad(loss, leaves)
        # A backward makes the last layers' gradients first.
        totals = [reduced(g) for g in reversed(gradients)][::-1]
        counts = torch._foreach_add(counts, 1)
        new = torch.ops.aten._fused_adam(
            params, totals, firsts, seconds, [], counts,
            lr=0.01, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        return [*new[0], *new[2], *new[3], *counts, loss]

    module = make_fx(step, tracing_mode="fake")(*initial(layers, dim), torch.ones(4, dim))
    module.meta["inputs"] = (*state_names(names), "batch.0")
    module.meta["outputs"] = (*state_names(names), "aux.0")
    return module


def state_names(names: Sequence[str]) -> list[str]:
    slots = [f"state.optimizer.{name}.{slot}" for slot in ("exp_avg", "exp_avg_sq", "step") for name in names]
    return [*(f"state.params.{name}" for name in names), *slots]


def initial(layers: int = 3, dim: int = DIM) -> list[Tensor]:
    params = [p.detach().clone() for p in model(layers, dim).parameters()]
    zeros = [torch.zeros_like(p) for _ in range(2) for p in params]
    return [*params, *zeros, *(torch.tensor(0.0) for _ in params)]


def batches(count: int, dim: int = DIM) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(4, dim) for _ in range(count)]


class Doubling:
    """The communicator of two ranks with equal batches; notes what it is asked for."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.pending: list[Tensor] = []

    def all_reduce(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        self.log.append("start")
        self.pending.append(2 * x)
        return self.pending[-1]

    def wait(self, x: Tensor) -> Tensor:
        assert any(x is other for other in self.pending), "not what a start gave"
        self.log.append("wait")
        self.pending = [other for other in self.pending if other is not x]
        return x


def fold(module, state: Sequence[Tensor], xs: Sequence[Tensor], last: bool = True) -> list[Tensor]:
    """The state after a step for each batch; new values overwrite the old ones in place, as `compile` does it."""
    state = [leaf.clone() for leaf in state]
    for i, x in enumerate(xs):
        kwargs = {"last_iter": True} if last and i == len(xs) - 1 else {}
        with (
            communicating(Doubling()) if not hasattr(module, "talker") else communicating(module.talker),
            torch.no_grad(),
        ):
            outputs = module(*state, x, **kwargs)
        overwrite(module, state, outputs)
    return state


def overwrite(module, state: list[Tensor], outputs: Sequence[Tensor]) -> None:
    for i, leaf in enumerate(state):
        if i not in getattr(module, "stale", ()):
            leaf.copy_(outputs[i])
