"""An update by `fp.optim` as functions of lists of tensors, for tracing."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from funpipe.graphs import Graph
from funpipe.optim import Optimizer
from funpipe.optim.rates import scalars_of
from funpipe.optim.update_op import update_lists
from funpipe.passes.optimizer.calls import UpdateCall


@dataclass(frozen=True)
class Rule:
    """An update as functions of lists of tensors.

    Args:
        optimizer: the update.
        label: of its leaves.
        slots: how many slots it has.
        has_norm: whether it reads the norm.
        keys: the names of its scalars.
    """

    optimizer: Optimizer
    label: Hashable
    slots: int
    has_norm: bool
    keys: tuple[str, ...]

    @staticmethod
    def of(graph: Graph, call: UpdateCall) -> "Rule":
        """The rule of an update by `fp.optim`."""
        optimizer, label = (graph.objects[call.settings[name]] for name in ("optimizer", "label"))
        rate = None if call.settings["lr"] is None else torch.ones(())
        keys = tuple(scalars_of(optimizer, torch.tensor(0), rate))
        return Rule(optimizer, label, len(call.slots), call.settings["norm"] is not None, keys)

    def scalars(self, tensors: list[Tensor]) -> Sequence[Tensor]:
        """The numbers that the optimizer computes from the step, and maybe a learning rate."""
        found = scalars_of(self.optimizer, tensors[0], tensors[1] if len(tensors) > 1 else None)
        return [found[key] for key in self.keys]

    def leaf(self, tensors: list[Tensor]) -> Sequence[Tensor]:
        """The update of one leaf: from it, its gradient, its slots, the step, maybe the norm, and the scalars."""
        count = 2 + self.slots
        (param, grad, *slots), (step, *rest) = tensors[:count], tensors[count:]
        norm, numbers = (rest[0], rest[1:]) if self.has_norm else (None, rest)
        scalars = dict(zip(self.keys, numbers, strict=True))
        return update_lists(self.optimizer, self.label, [param], [grad], slots, step, norm, None, scalars)
