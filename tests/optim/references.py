"""Leaves and gradients for comparing with an optimizer of torch, and the comparison."""

import torch

from funpipe.optim import apply


def draw(seed, shapes, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for name, shape in shapes.items()}


def both(optimizer, reference, shapes, dtype=torch.float64, steps=6):
    """The parameters after some steps of an optimizer, and of one of torch that `reference` makes of parameters."""
    params = draw(0, shapes, dtype)
    theirs = {name: torch.nn.Parameter(leaf.clone()) for name, leaf in params.items()}
    torch_optimizer, state = reference(list(theirs.values())), optimizer.init(params)
    for step in range(steps):
        grads = draw(step + 1, shapes, dtype)
        for name, leaf in theirs.items():
            leaf.grad = grads[name].clone()
        torch_optimizer.step()
        params, state = apply(optimizer, params, grads, state, torch.tensor(step))
    return params, {name: leaf.detach() for name, leaf in theirs.items()}


def assert_equal(found, expected, tolerance):
    for name, leaf in expected.items():
        torch.testing.assert_close(found[name], leaf, rtol=tolerance, atol=tolerance)
