"""A model of the list as a pure loss function and a batch, and the same computed by the plain eager loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optree
import torch
from torch import Tensor, nn

import funpipe as fp
from tests.models.entry import Entry


@dataclass(frozen=True)
class Problem:
    """A model with its loss.

    Args:
        entry: of the list.
        module: the model itself.
        apply: the pure function of it.
        params, buffers: by name.
    """

    entry: Entry
    module: nn.Module
    apply: Callable[..., Any]
    params: dict[str, Tensor]
    buffers: dict[str, Tensor]

    @classmethod
    def of(cls, entry: Entry) -> "Problem":
        """The problem of an entry."""
        module = entry.build()
        return cls(entry, module, *fp.functionalize(module))

    def batch(self, seed: int) -> dict[str, Any]:
        """The arguments as a batch: nested as they are, with what is no tensor."""
        args, kwargs = self.entry.inputs(seed)
        return {"args": args, "kwargs": kwargs}

    def output(self, params: dict[str, Tensor], batch: dict[str, Any], buffers: dict[str, Tensor]) -> Any:
        """What the model returns, and its new buffers."""
        return self.apply(params, buffers, *batch["args"], **batch["kwargs"])

    @property
    def loss(self) -> Callable[..., Any]:
        """The loss function, for `fp.train_step`."""

        def loss(params: dict[str, Tensor], batch: dict[str, Any], *, buffers: dict[str, Tensor]) -> fp.Out:
            out, new = self.output(params, batch, buffers)
            return fp.Out(self.entry.loss(out), aux=_values(out), buffers=new)

        return loss

    def microbatches(self, seed: int, count: int) -> list[dict[str, Any]]:
        """A batch in parts; what is no tensor is in each."""
        rows = self.entry.rows // count
        leaves, spec = optree.tree_flatten(self.batch(seed), none_is_leaf=True)
        parts = ([t[i * rows : (i + 1) * rows] if isinstance(t, Tensor) else t for t in leaves] for i in range(count))
        return [optree.tree_unflatten(spec, part) for part in parts]


def _values(out: Any) -> dict[str, Any]:
    """The floating-point tensors that a model returns, as values to report."""
    found = (t for t in leaves_of(out) if t.is_floating_point() and t.ndim)
    return {f"value{i}": fp.cat(t.detach()) for i, t in enumerate(found)}


def leaves_of(out: Any) -> list[Tensor]:
    """The tensors in what a model returns."""
    if isinstance(out, Tensor):
        return [out]
    if isinstance(out, dict):
        return [t for v in out.values() for t in leaves_of(v)]
    return [t for v in out for t in leaves_of(v)] if isinstance(out, (list, tuple)) else []


@dataclass(frozen=True)
class Eager:
    """What the plain loop gives: the loss, gradients and values of one batch."""

    loss: Tensor
    gradients: dict[str, Tensor]
    values: list[Tensor]


def eager(problem: Problem, seed: int, microbatches: int) -> Eager:
    """The model's own loss and gradients, the mean over microbatches; the module is left as it is."""
    module = problem.module
    kept = {n: b.clone() for n, b in module.named_buffers()}
    module.zero_grad()
    loss, values = torch.zeros(()), []
    for part in problem.microbatches(seed, microbatches):
        out = module(*part["args"], **part["kwargs"])
        value = problem.entry.loss(out) / microbatches
        value.backward()
        loss = loss + value.detach()
        values.append([t.detach() for t in leaves_of(out) if t.is_floating_point() and t.ndim])
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(kept[name])
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in module.named_parameters()}
    joined = [torch.cat(column) for column in zip(*values, strict=True)]
    module.zero_grad()
    return Eager(loss, {n: g.clone() for n, g in gradients.items()}, joined)


def eager_losses(
    problem: Problem, optimizer: Callable[..., torch.optim.Optimizer], steps: int, count: int
) -> list[float]:
    """The losses of the plain loop over a module of its own."""
    module = problem.entry.build()
    update, losses = optimizer(module.parameters()), []
    for step in range(steps):
        update.zero_grad()
        total = 0.0
        for part in problem.microbatches(step, count):
            value = problem.entry.loss(module(*part["args"], **part["kwargs"])) / count
            value.backward()
            total += value.item()
        update.step()
        losses.append(total)
    return losses
