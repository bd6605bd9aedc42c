"""`StandIns`: what a step sees instead of its state while it is traced."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from funpipe.interop.spmd.engine.leaves import BUFFERS, GRADS, OPTIMIZER, PARAMS
from funpipe.interop.spmd.engine.lent import lent
from funpipe.interop.spmd.engine.step import LEFT, Step
from funpipe.interop.spmd.engine.stepping import stepping_on_shards
from funpipe.interop.spmd.errors import SpmdNotImplementedError


class Whole(nn.Module):
    """The user's function as a module, so that `functional_call` can put stand-ins into the model.

    Args:
        model: of the step.
        function: the user's.
    """

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it."""
        return self.function(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class StandIns:
    """The state of a step in a trace, by the names that the model has.

    Args:
        step: what is traced.
        own: parameters as this rank has them, which the optimizer changes.
        params: parameters as the function sees them: whole, with gradients reduced over the ranks.
        buffers: of the model.
        states: the optimizer's, by parameter.
        had: the names of parameters that had gradients.
    """

    step: Step
    own: Mapping[str, Tensor]
    params: Mapping[str, Tensor]
    buffers: dict[str, Tensor]
    states: Mapping[str, dict[str, Tensor]]
    had: frozenset[str]

    @staticmethod
    def of(step: Step, given: Mapping[str, Tensor]) -> "StandIns":
        """Makes them of the inputs of the graph.

        Args:
            step: what is traced.
            given: the inputs that are state, by name.
        """
        own, gradients = _under(given, PARAMS), _under(given, GRADS)
        params = {name: _stand_in(step, name, x, gradients.get(name)) for name, x in own.items()}
        return StandIns(step, own, params, _under(given, BUFFERS), _states(step, given), frozenset(gradients))

    def call(self, rates: tuple[Tensor, ...], tensors: tuple[Tensor, ...]) -> Any:
        """Calls the function with them, and keeps what it made of them.

        Args:
            rates: the learning rates.
            tensors: arguments of the function.

        Returns:
            What the function returns.
        """
        call = self.step.call
        by_name = {f"model.{name}": x for name, x in (*self.params.items(), *self.buffers.items())}
        args, kwargs = call.filled(tensors)
        with ExitStack() as stack:
            if call.optimizer is not None:
                self._lend(stack, call.optimizer, rates)
            returned = torch.func.functional_call(Whole(call.model, self.step.function), by_name, tuple(args), kwargs)
            if call.optimizer is not None:
                self._keep(call.optimizer)
        self.buffers.update({name: by_name[f"model.{name}"] for name in self.buffers})
        return returned

    def _lend(self, stack: ExitStack, optimizer: Optimizer, rates: tuple[Tensor, ...]) -> None:
        names = {leaf.tensor: leaf.name.removeprefix(PARAMS) for leaf in self.step.state}
        held = [p for group in optimizer.param_groups for p in group["params"]]
        states = {self.own[name]: dict(state) for name, state in self.states.items()}
        stack.enter_context(lent(optimizer, {p: self.params[names[p]] for p in held}, states, rates))
        pairs = [(self.params[name], self.own[name], shard) for name, shard in self.step.shards.items()]
        stack.enter_context(stepping_on_shards(optimizer, pairs))

    def _keep(self, optimizer: Optimizer) -> None:
        for name, state in self.states.items():
            state.update(optimizer.state.get(self.own[name], {}))

    def results(self) -> dict[str, Tensor]:
        """The new state, by the names of the graph's outputs; gradients that are left among it."""
        found = {PARAMS + name: x for name, x in self.own.items()}
        found |= {BUFFERS + name: x for name, x in self.buffers.items()}
        found |= {f"{OPTIMIZER}{name}.{key}": x for name, state in self.states.items() for key, x in state.items()}
        for name, param in self.params.items():
            if param.grad is not None:
                shard = self.step.shards.get(name)
                prefix = GRADS if name in self.had else LEFT
                found[prefix + name] = param.grad if shard is None else shard.own(param.grad)
        return found


def _stand_in(step: Step, name: str, own: Tensor, gradient: Tensor | None) -> Tensor:
    """The parameter that the function sees: a leaf of autograd's."""
    shard = step.shards.get(name)
    param = own
    if shard is not None:
        param = nn.Parameter(shard.whole(own.detach()), requires_grad=own.requires_grad)
    if own.requires_grad:
        param.register_hook(lambda g: step.reduce(_dense(g, name), shard))
    if gradient is not None:
        param.grad = gradient if shard is None else shard.whole(gradient)
    return param


def _dense(gradient: Tensor, name: str) -> Tensor:
    if gradient.layout is not torch.strided:
        raise SpmdNotImplementedError(
            f"the gradient of {name} is sparse, and ranks have other rows of it: make the module with sparse=False."
        )
    return gradient


def _states(step: Step, given: Mapping[str, Tensor]) -> Mapping[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for leaf in step.state:
        if leaf.name.startswith(OPTIMIZER):
            found[leaf.name.removeprefix(OPTIMIZER).removesuffix(f".{leaf.key}")][leaf.key] = given[leaf.name]
    return found


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
