"""Runs programs in the reference interpreter on plain dicts of tensors, and eager autograd beside them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from funpipe.functional import microbatch
from funpipe.functional.signature import call_loss
from funpipe.functional.tree import named_leaves, unflatten_named
from funpipe.programs import Programs, interpret, lower
from funpipe.schedules import Table
from funpipe.stages import Stage
from funpipe.tracing import Traced

Named = Mapping[str, Tensor]


@dataclass(frozen=True)
class Step:
    """What one step without an optimizer gives: results, gradients and new buffers by name."""

    results: dict[str, Tensor]
    grads: dict[str, Tensor]
    buffers: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        return self.results["loss"] / self.results.get("weight", 1)

    def same_bits(self, other: "Step") -> bool:
        pairs = ((self.results, other.results), (self.grads, other.grads), (self.buffers, other.buffers))
        return all(a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a) for a, b in pairs)


def run_programs(
    traced: Traced,
    stages: tuple[Stage, ...],
    table: Table,
    params: Any,
    batch: Any,
    *,
    buffers: Any = None,
    batch_dims: dict[str, int | None] | None = None,
) -> Step:
    """Lowers without an optimizer and interprets one step of all ranks on the whole batch."""
    programs = lower(traced, stages, table, batch_dims=batch_dims)
    leaves = {"leaf": _named(params), "buffer": _named(buffers), "batch": _named(batch), "const": traced.consts}
    inputs = [{n: _value(n, programs, leaves) for n in p.inputs} for p in programs.programs]
    (out,) = interpret(programs, [inputs])
    return _step(programs, out)


def _named(tree: Any) -> Named:
    return {n: t.detach() for n, t in named_leaves({} if tree is None else tree)[0].items()}


def _value(name: str, programs: Programs, leaves: dict[str, Named]) -> Tensor:
    kind, _, rest = name.partition(".")
    if kind == "step":
        return torch.tensor(0)
    if kind != "bucket":
        return leaves[kind][rest]
    bucket = next(b for b in programs.layout.buckets if b.name == rest)
    flat = torch.zeros(bucket.size, dtype=bucket.dtype)
    for slot in bucket.slots:
        slot.view(flat).copy_(leaves["leaf"][slot.leaf])
    return flat


def _step(programs: Programs, out: list[dict[str, Tensor]]) -> Step:
    results: dict[str, Tensor] = {}
    for program, values in zip(programs.programs, out, strict=True):
        results |= {name: values[value] for name, value in program.outputs.items()}
    grads = {
        slot.leaf: slot.view(results[f"grad.{bucket.name}"])
        for bucket in programs.layout.buckets
        for slot in bucket.slots
    }
    kinds = ("grad.", "buffer.")
    buffers = {n.removeprefix("buffer."): t for n, t in results.items() if n.startswith("buffer.")}
    return Step({n: t for n, t in results.items() if not n.startswith(kinds)}, grads, buffers)


def eager(
    loss_fn: Callable[..., Any],
    params: Any,
    batch: Any,
    num_microbatches: int,
    *,
    frozen: frozenset[str] = frozenset(),
    buffers: Any = None,
    spec: Any = 0,
) -> Step:
    """The same step by eager autograd: one backward of the mean loss over all microbatches."""
    tree = _map(params, lambda n, t: t.detach().clone().requires_grad_(t.is_floating_point() and n not in frozen))
    named = {n: t for n, t in named_leaves(tree)[0].items() if t.requires_grad}
    sums, weights = [], []
    for part in microbatch.split(batch, num_microbatches, spec):
        out = call_loss(loss_fn, tree, _map(part, lambda n, t: t.clone()), buffers)
        sums.append(out.loss_sum)
        weights.append(torch.tensor(1.0) if out.weight is None else out.weight)
        buffers = _map(out.buffers, lambda n, t: t.detach()) if buffers is not None else None
    loss = torch.stack(sums).sum() / torch.stack(weights).sum()
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    found = {n: g for n, g in zip(named, grads, strict=True) if g is not None}
    return Step({"loss": loss.detach()}, found, dict(_named(buffers)))


def _map(tree: Any, function: Callable[[str, Tensor], Tensor]) -> Any:
    named, spec = named_leaves(tree)
    return unflatten_named(spec, {n: function(n, t) for n, t in named.items()})
