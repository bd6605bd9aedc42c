"""Gradients that are scaled once: what a step accumulates, apart from what was there before it."""

from collections.abc import Iterable

import torch

Before = list[tuple[torch.Tensor, torch.Tensor]]


def set_aside(weights: Iterable[torch.Tensor]) -> Before:
    """Takes the gradients off some weights, so that a step's own can be told from them.

    Returns:
        Each weight that had a gradient, with it.
    """
    before = [(weight, weight.grad) for weight in weights if weight.grad is not None]
    for weight, _ in before:
        weight.grad = None
    return before


def forget(weights: Iterable[torch.Tensor]) -> None:
    """Takes off the gradients of a step that failed."""
    for weight in weights:
        weight.grad = None


def put_back(before: Before) -> None:
    """Adds a step's gradients to those set aside; `.grad` is the tensor that it was before."""
    for weight, gradient in before:
        if weight.grad is not None:
            gradient.add_(weight.grad)
        weight.grad = gradient


def divide(weights: Iterable[torch.Tensor], factor: float) -> None:
    """Divides the gradients of some weights in place."""
    for weight in weights:
        if weight.grad is not None:
            weight.grad.div_(factor)
