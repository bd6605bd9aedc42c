"""The loss function that is planned, traced for microbatches of any size."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._errors import BatchError
from funpipe._typing import Tree
from funpipe.functional.batch_spec import resolve, rows_of
from funpipe.functional.tree import named_leaves
from funpipe.optim import Optimizer
from funpipe.planning.region_costs import RegionCosts
from funpipe.stages import Costs
from funpipe.tracing import Traced, trace

Pricing = Costs | Callable[[Traced], Costs]
"""Costs for every graph, or a function that gives them for the graph of a microbatch."""


@dataclass(frozen=True, eq=False)
class Source:
    """The arguments of `plan` that say what is trained.

    Args:
        loss_fn: the loss function.
        params: real, fake or meta; only shapes and dtypes are read.
        batch: the same; its number of rows does not matter.
        buffers: the same, if the loss function takes them.
        batch_spec: the batch dimension of each leaf.
        optimizer: whose state is counted.
        pricing: the time of a node.
    """

    loss_fn: Callable[..., Any]
    params: Tree
    batch: Tree
    buffers: Tree
    batch_spec: Tree
    optimizer: Optimizer
    pricing: Pricing
    _traced: dict[int, tuple[Traced, Costs]] = field(default_factory=dict)
    _leaves: dict[str, Tensor] = field(default_factory=dict)
    _slots: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if rows_of(resolve(self.batch, self.batch_spec)[0]) is None:
            raise BatchError("no leaf of the batch has a batch dimension: nothing can be split; give it in batch_spec.")

    def traced(self, rows: int) -> tuple[Traced, Costs]:
        """The graph of a microbatch of so many rows, and what its nodes cost."""
        if rows not in self._traced:
            made = trace(self.loss_fn, self.params, self.microbatch(rows), buffers=self.buffers, device=self.device)
            pricing: Any = self.pricing
            self._traced[rows] = made, pricing if hasattr(pricing, "node") else pricing(made)
        return self._traced[rows]

    def adds_up(self, rows: int) -> bool:
        """Whether stages take what their operations take: not where whole regions are measured."""
        return not isinstance(self.traced(rows)[1], RegionCosts)

    def microbatch(self, rows: int) -> Tree:
        """A batch of so many rows, without values."""
        leaves, structure = resolve(self.batch, self.batch_spec)
        return optree.tree_unflatten(structure, [_sized(leaf.value, leaf.dim, rows) for leaf in leaves])

    @property
    def device(self) -> str | None:
        """The device type to trace for; None where no leaf is on a device."""
        kinds = [t.device.type for t in _tensors((self.params, self.batch)) if t.device.type != "meta"]
        return kinds[0] if kinds else None

    def batch_bytes(self, rows: int) -> int:
        """The bytes of so many rows of the batch."""
        return sum(map(_nbytes, _tensors(self.microbatch(rows))))

    def slots(self, name: str) -> float:
        """The bytes of optimizer state of a parameter."""
        if not self._leaves:
            self._leaves.update({n: t.detach().to("meta") for n, t in named_leaves(self.params)[0].items()})
        if name not in self._slots:
            self._slots[name] = sum(map(_nbytes, _tensors(self.optimizer.init({name: self._leaves[name]}))))
        return self._slots[name]


def _sized(value: Any, dim: int | None, rows: int) -> Any:
    if dim is None or not isinstance(value, Tensor):
        return value
    shape = [rows if i == dim else n for i, n in enumerate(value.shape)]
    return torch.empty(shape, dtype=value.dtype, device="meta")


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.dtype.itemsize
