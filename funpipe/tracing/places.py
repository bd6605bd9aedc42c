"""The places that use a leaf: the terms of the sum that autograd makes of its gradient.

Autograd adds the contributions of all uses of a leaf. Its gradient is taken apart at these additions, so that each
term has an accumulator of its own and the terms are added once, at the end of the step, in trace order. The order of
additions is then the same wherever the graph is cut (`docs/numerics.md`).
"""

import torch
from torch import fx

aten = torch.ops.aten


def terms(gradient: fx.Node, order: dict[fx.Node, int], backward: set[fx.Node]) -> tuple[fx.Node, ...]:
    """The nodes whose sum is the gradient, in trace order; the additions between them become dead.

    Args:
        gradient: the node of a leaf's gradient, used by the graph's output alone or by more.
        order: the position of each node.
        backward: the nodes of the backward.
    """
    found: list[fx.Node] = []
    waiting = [gradient]
    while waiting:
        node = waiting.pop()
        if _is_sum_of_uses(node, backward):
            waiting += [a for a in node.args if isinstance(a, fx.Node)]
        else:
            found.append(node)
    return tuple(sorted(found, key=order.__getitem__))


def _is_sum_of_uses(node: fx.Node, backward: set[fx.Node]) -> bool:
    """Whether a node is an addition of two tensors of its own shape that nothing else reads."""
    if node.target is not aten.add.Tensor or node.kwargs or len(node.users) != 1 or node not in backward:
        return False
    shape = node.meta["val"].shape
    return all(isinstance(a, fx.Node) and a.meta["val"].shape == shape for a in node.args)
