"""One device without funpipe: a plain training loop of torch, eager or with a compiled model, and fused AdamW."""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from tests.benchmarks.cases import Case
from tests.benchmarks.models import Chain, cross_entropy
from tests.benchmarks.steps import Peer, Read, Step


class _Loss(nn.Module):
    """A model and its loss as one module, so that a compiler sees both."""

    def __init__(self, model: Chain) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(self.model(x), y)


def loop(case: Case, model: Chain, device: str, parts: int, mode: str | None) -> Step:
    """A training step.

    Args:
        case: the batch.
        model: copied.
        device: where it runs.
        parts: 1 takes the whole batch at once, more accumulate gradients over so many microbatches.
        mode: None: eager; else the compiler's mode.
    """
    torch.set_num_threads(1)
    loss_of = _Loss(copy.deepcopy(model).to(device))
    optimizer = torch.optim.AdamW(loss_of.parameters(), 1e-3, fused=True)
    forward = loss_of if mode is None else torch.compile(loss_of, dynamic=False, mode=mode)
    x, y = (t.to(device).chunk(parts) for t in case.batch())
    share = torch.tensor(1 / parts, device=device, dtype=case.dtype)

    def step() -> Read:
        total = torch.zeros((), device=device)
        for rows, targets in zip(x, y, strict=True):
            if mode == "reduce-overhead":
                torch.compiler.cudagraph_mark_step_begin()
            loss = forward(rows, targets)
            loss.backward(share)
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
        return lambda: total.item() / parts

    return step


def peers(case: Case, model: Chain, device: str) -> list[Peer]:
    """Eager and compiled, each with the whole batch at once and microbatch by microbatch."""
    modes = {"eager": None, "compiled model": "default"}
    made = [
        Peer(f"{name}, {how}", partial(loop, case, model, device, parts, mode), name)
        for name, mode in modes.items()
        for how, parts in (("whole batch", 1), ("microbatches", case.microbatches))
    ]
    graphs = partial(loop, case, model, device, 1, "reduce-overhead")  # replays would overwrite gradients to be added
    return [*made, Peer("compiled model, CUDA graphs", graphs)] if device == "cuda" else made
