"""`freeze`: the same parameters, some of which are not trained."""

from torch import Tensor

from funpipe._errors import TreeError
from funpipe._typing import Tree
from funpipe.functional.deferred.leaf import with_gradient
from funpipe.functional.patterns import Patterns, matching
from funpipe.functional.tree import named_leaves, unflatten_named


def freeze(params: Tree, where: Patterns = "*", *, but: Patterns = ()) -> Tree:
    """A parameter tree in which some leaves are frozen.

    A frozen leaf has no gradient, no optimizer state and no update; it is outside of the buckets.

    Args:
        params: a pytree of tensors; not changed.
        where: the leaves to freeze: names, subtrees (`"embed"`) or patterns (`"*.bias"`); all by default.
        but: those among them that are trained.

    Returns:
        The tree, over the same memory; `requires_grad` says which leaves are trained.

    Raises:
        TreeError: a pattern matches no leaf, or nothing is left to train.

    Example:
        >>> import torch
        >>> params = {"embed": torch.ones(2), "head": {"weight": torch.ones(2), "bias": torch.ones(1)}}
        >>> frozen = freeze(params, but="head")
        >>> frozen["embed"].requires_grad, frozen["head"]["bias"].requires_grad
        (False, True)
    """
    named, spec = named_leaves(params, what="params")
    spared = set(matching(named, but, "freeze: but="))
    out = set(matching(named, where, "freeze:")) - spared
    asked = any(leaf.requires_grad for leaf in named.values())

    def is_trained(name: str, leaf: Tensor) -> bool:
        """A leaf that was frozen before stays so, unless it is spared by name."""
        before = leaf.requires_grad or not asked or name in spared
        return before and name not in out and leaf.is_floating_point()

    trained = {name for name, leaf in named.items() if is_trained(name, leaf)}
    if not trained:
        raise TreeError(
            f'freeze: {where!r} leaves nothing to train; say what is trained, as in freeze(params, but="head"), or '
            "use fp.eval_step, which trains nothing."
        )
    return unflatten_named(spec, {name: with_gradient(leaf, name in trained) for name, leaf in named.items()})
