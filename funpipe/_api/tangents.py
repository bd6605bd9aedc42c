"""A parameter tree with a direction for each leaf that is trained, as one tree."""

from funpipe._typing import Tree
from funpipe.functional.tree import check_same, named_leaves, types_of, unflatten_named
from funpipe.tracing.trace import trainable


def with_tangents(params: Tree, tangents: Tree) -> Tree:
    """What `funpipe.functional.tangents.directional` takes; only the parameters require a gradient.

    Args:
        params: those that are trained get their direction.
        tangents: of the same structure, shapes and dtypes.

    Raises:
        TreeError: they are not.

    Example:
        >>> import torch
        >>> tree = with_tangents({"w": torch.ones(2)}, {"w": torch.zeros(2)})
        >>> tree["params"]["w"].requires_grad, tree["tangents"]
        (True, {'w': tensor([0., 0.])})
    """
    named, spec = named_leaves(params, what="params")
    check_same(types_of(named), tangents, what="tangents")
    moving = set(trainable(named))
    leaves = {n: leaf.detach().requires_grad_(n in moving) for n, leaf in named.items()}
    along = {n: t.detach() for n, t in named_leaves(tangents)[0].items() if n in moving}
    return {"params": unflatten_named(spec, leaves), "tangents": along}
