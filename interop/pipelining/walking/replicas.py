"""Parameters that stages of several ranks use: each has the sum of their gradients at the end of a step."""

from typing import Any

import torch

from funpipe.interop.pipelining.walking.arrival import Tensors
from funpipe.interop.pipelining.walking.message import Message
from funpipe.interop.pipelining.walking.neighbours import Neighbours
from funpipe.interop.pipelining.walking.post import Post


def sum_replicas(neighbours: Neighbours, post: Post) -> None:
    """Adds up the gradients of every replicated parameter of a traced model, in the order of its stages.

    Args:
        neighbours: this rank's stages and where the others are.
        post: sends and receives.
    """
    any_stage = next(iter(neighbours.stages.values()))
    info = getattr(any_stage, "pipe_info", None)
    for number, uses in enumerate(info.replicated if info is not None else ()):
        _sum(number, _one_for_each_rank(uses, neighbours.ranks), neighbours, post)
    post.flush()


def _one_for_each_rank(uses: tuple[tuple[int, str], ...], ranks: dict[int, int]) -> dict[int, tuple[int, str]]:
    """Stages of one rank share the parameter itself: its first use there stands for all."""
    found: dict[int, tuple[int, str]] = {}
    for stage, name in sorted(uses):
        found.setdefault(ranks[stage], (stage, name))
    return found


def _sum(number: int, uses: dict[int, tuple[int, str]], neighbours: Neighbours, post: Post) -> None:
    """The first rank adds and tells the others."""
    own = [(stage, name) for stage, name in uses.values() if stage in neighbours.stages]
    if len(uses) < 2 or not own:
        return
    stage, name = own[0]
    parameter = neighbours.stages[stage].submod.get_parameter(name)
    (first_rank, (first, _)), *others = uses.items()
    if stage == first:
        for rank, (other, _) in others:
            _add(parameter, _received(Message(True, other, first, -1 - number), rank, post))
        for rank, (other, _) in others:
            post.send(Message(False, first, other, -1 - number), rank, {0: parameter.grad})
    else:
        post.send(Message(True, stage, first, -1 - number), first_rank, {0: parameter.grad})
        total = _received(Message(False, first, stage, -1 - number), first_rank, post)
        parameter.grad = None if total is None else total.to(parameter.device)


def _received(message: Message, rank: int, post: Post) -> torch.Tensor | None:
    found: list[Any] = []

    def deliver(tensors: Tensors) -> None:
        found.append(tensors[0])

    post.receive(message, rank, deliver).wait()
    return None if found[0] is None else found[0].detach()


def _add(parameter: torch.Tensor, gradient: torch.Tensor | None) -> None:
    if gradient is not None:
        gradient = gradient.to(parameter.device)
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
