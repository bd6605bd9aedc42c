"""The function that is traced, run as it is on the values of one microbatch."""

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe import _compat
from funpipe._typing import Tree
from funpipe.functional import random
from funpipe.functional.fixed import fixed, unfixed
from funpipe.functional.precision import Precision
from funpipe.functional.signature import call_loss, keywords_of
from funpipe.functional.tree import named_leaves, types_of, unflatten_named


def eager_run(
    loss_fn: Callable[..., Any], params: Tree, batch: Tree, buffers: Tree, precision: Precision | None
) -> Callable[[], object] | None:
    """What runs the forward once; torch's generators are afterwards as they were.

    Args:
        loss_fn, params, batch, buffers, precision: as `funpipe.trace` takes them.

    Returns:
        The run; None where a leaf has no value.
    """
    trees = (params, buffers, fixed(batch))
    if any(isinstance(leaf, Tensor) and not has_values(leaf) for tree in trees for leaf in optree.tree_leaves(tree)):
        return None

    def run() -> object:
        held = optree.tree_map(lambda leaf: leaf.detach().clone(), buffers)  # a function may write to them
        key = random.key(0) if "key" in keywords_of(loss_fn) else None
        with torch.random.fork_rng(), torch.enable_grad():
            given = unfixed(_batch(trees[2], precision))
            return call_loss(loss_fn, _params(params, precision), given, held, key, trains=False)

    return run


def _params(params: Tree, precision: Precision | None) -> Tree:
    """The parameters as the function gets them: copies, for it may write to them, and no leaves of a user's graph."""
    named, spec = named_leaves(params)
    kinds = precision.computed_types(precision.kept_types(types_of(named))) if precision else types_of(named)
    leaves = {name: leaf.detach().to(kinds[name].dtype, copy=True) for name, leaf in named.items()}
    return unflatten_named(spec, {n: t.requires_grad_(t.is_floating_point()) for n, t in leaves.items()})


def _batch(batch: Tree, precision: Precision | None) -> Tree:
    named, spec = named_leaves(batch)
    return unflatten_named(spec, precision.computed_batch(named) if precision else named)


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers: it is neither on the meta device nor a stand-in."""
    return tensor.device.type != "meta" and not _compat.is_fake(tensor)
