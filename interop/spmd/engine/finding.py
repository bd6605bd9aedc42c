"""Finds the state that a call reads and changes, and tells calls apart that need different graphs."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from funpipe import TensorType
from funpipe.interop.pipelining.engine.ambient import ambient
from funpipe.interop.pipelining.engine.hooks import has_hooks
from funpipe.interop.spmd.engine.arguments import Arguments
from funpipe.interop.spmd.engine.communication import ranks
from funpipe.interop.spmd.engine.leaves import (
    GRADS,
    PARAMS,
    Fresh,
    Leaf,
    buffers,
    gradients,
    optimizer_state,
    parameters,
)
from funpipe.interop.spmd.engine.optimizers import first_state, hyperparameters, require_supported
from funpipe.interop.spmd.engine.overriding import Replacement, Replaces, replaced, replacements


@dataclass(eq=False)
class Finder:
    """Finds state; what it makes for optimizers that have none yet is the same at every call.

    Args:
        overrides: of submodules.
    """

    overrides: Sequence[Replaces]
    _fresh: dict[Tensor, dict[str, Tensor]] = field(default_factory=dict)
    _replacements: dict[nn.Module, list[Replacement]] = field(default_factory=dict)
    _supported: set[Optimizer] = field(default_factory=set)

    def in_place(self, model: nn.Module) -> AbstractContextManager[None]:
        """While open, submodules that overrides replace are replaced.

        Args:
            model: of the step.
        """
        if model not in self._replacements:
            self._replacements[model] = replacements(model, self.overrides)
        return replaced(self._replacements[model])

    def leaves(self, call: Arguments) -> list[Leaf]:
        """The state of a call: parameters, buffers, the optimizer's, and gradients that there are.

        Args:
            call: its arguments.

        Raises:
            FunpipeError: the optimizer cannot be compiled.
        """
        if call.optimizer is not None and call.optimizer not in self._supported:
            require_supported(call.optimizer, call.model)
            self._supported.add(call.optimizer)
        with self.in_place(call.model):
            params, held = parameters(call.model), buffers(call.model)
        state = optimizer_state(call.optimizer, params, self._first_states(call))
        return [*params, *held, *state, *gradients(params)]

    def _first_states(self, call: Arguments) -> Fresh:
        optimizer = call.optimizer
        for group in optimizer.param_groups if optimizer is not None else ():
            for param in group["params"]:
                known = param in self._fresh or not param.requires_grad or optimizer.state.get(param)  # type: ignore[union-attr]
                if not known:
                    self._fresh[param] = first_state(optimizer, group, param)  # type: ignore[arg-type]
        return self._fresh


def key_of(call: Arguments, leaves: Sequence[Leaf]) -> tuple[Any, ...]:
    """Equal where two calls can run the same graph, as far as gradients from before are not concerned.

    Args:
        call: its arguments.
        leaves: its state.
    """
    state = [_key_of_leaf(leaf) for leaf in leaves]
    modes = tuple(module.training for module in call.model.modules())
    device = leaves[0].local.device if leaves else None
    return (
        id(call.model),
        id(call.optimizer),
        call.key,
        tuple(entry for entry in state if not entry[0].startswith(GRADS)),
        hyperparameters(call.optimizer),
        modes,
        ranks(),
        ambient(device) if device is not None else (),
    )


def _key_of_leaf(leaf: Leaf) -> tuple[Any, ...]:
    local, tensor = leaf.local, leaf.tensor
    return leaf.name, TensorType.of(local), local.device, tensor.requires_grad, has_hooks(tensor)


def with_gradients(leaves: Sequence[Leaf]) -> tuple[str, ...]:
    """The names of the gradients among the leaves."""
    return tuple(leaf.name for leaf in leaves if leaf.name.startswith(GRADS))


def with_present_gradients(leaves: Sequence[Leaf]) -> list[Leaf]:
    """The same leaves with the gradients that there are now.

    Args:
        leaves: of a step before.
    """
    kept = [leaf for leaf in leaves if not leaf.name.startswith(GRADS)]
    return [*kept, *gradients([leaf for leaf in kept if leaf.name.startswith(PARAMS)])]
