"""A small model with one marked stage end, its batches, and plain training with torch beside it."""

from collections.abc import Callable, Iterator
from typing import Any

import optree
import torch
import torch.nn.functional as F
from torch import Tensor

import funpipe as fp

ROWS = 8


def loss_fn(params: Any, batch: dict[str, Tensor]) -> Tensor:
    """Three layers whose parameters lie in a dict, a list and a tuple."""
    h = torch.tanh(batch["x"] @ params["first"]["weight"] + params["first"]["bias"])
    h = torch.tanh(fp.mark_stage_end(h) @ params["rest"][0])
    return F.mse_loss(h @ params["rest"][1][0], batch["y"])


def params_of(seed: int = 0, dtype: torch.dtype = torch.float32, width: int = 6) -> Any:
    made = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made, dtype=torch.float64).div(shape[0] ** 0.5).to(dtype)

    first = {"weight": normal(5, width), "bias": normal(width)}
    return {"first": first, "rest": [normal(width, width), (normal(width, 2),)]}


def batch_of(rows: int = ROWS, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(100 + seed)
    x, y = (torch.randn(rows, n, generator=made, dtype=torch.float64).to(dtype) for n in (5, 2))
    return {"x": x, "y": y}


def batches(count: int, rows: int = ROWS, dtype: torch.dtype = torch.float32) -> Iterator[dict[str, Tensor]]:
    return (batch_of(rows, seed, dtype) for seed in range(count))


def step_of(loss: Callable[..., Any] = loss_fn, optimizer: fp.optim.Optimizer | None = None, **options: Any) -> Any:
    """A train step of the interpreter with 4 microbatches, unless asked otherwise."""
    options = {"num_microbatches": 4, "backend": "interpret"} | options
    return fp.train_step(loss, optimizer or fp.optim.sgd(0.1, momentum=0.9), **options)


def trained(step: Any, params: Any, data: Any, **kept: Any) -> tuple[Any, list[Tensor]]:
    """The state after a step on each batch, and the losses."""
    data = list(data)
    state, losses = step.init(params, data[0], **kept), []
    for batch in data:
        state, metrics = step(state, batch)
        losses.append(metrics["loss"])
    return state, losses


def eager(loss: Callable[..., Any], params: Any, data: Any, optimizer: Callable[..., Any]) -> tuple[Any, list[Tensor]]:
    """The parameters after torch's optimizer took a step on each batch, and the losses: no microbatches, no stages."""
    params = optree.tree_map(lambda t: t.clone().requires_grad_(t.is_floating_point()), params)
    opt, losses = optimizer([t for t in leaves(params) if t.requires_grad]), []
    for batch in data:
        opt.zero_grad()
        found = loss(params, batch)
        found.backward()
        opt.step()
        losses.append(found.detach())
    return optree.tree_map(torch.Tensor.detach, params), losses


def leaves(tree: Any) -> list[Tensor]:
    return optree.tree_leaves(tree)


def same_bits(one: Any, other: Any) -> bool:
    """Whether two trees have the same structure and the same bits."""
    if optree.tree_structure(one) != optree.tree_structure(other):
        return False
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


def largest_error(one: Any, other: Any) -> float:
    """The largest difference of a leaf, as a part of the leaf's norm."""
    assert optree.tree_structure(one) == optree.tree_structure(other)
    pairs = zip(leaves(one), leaves(other), strict=True)
    return max(float((a - b).double().norm() / b.double().norm()) for a, b in pairs)


def largest_loss_error(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest relative difference of two rows of losses."""
    return max(abs(float(a) / float(b) - 1) for a, b in zip(one, other, strict=True))
