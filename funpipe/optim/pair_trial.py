"""What an update reads, found out by running it: itself, its leaf, or all leaves.

Nothing in a pair says so. It is run for a few steps on random values: on two leaves, on each of them alone, and on all
their elements as one shuffled leaf.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from funpipe import _compat
from funpipe._errors import FunpipeError
from funpipe._typing import TensorType
from funpipe.graphs.stand_in import fake_like
from funpipe.optim.base import Entries, Scope
from funpipe.optim.pair_state import REMEDY, PairState

History = list[Entries]
"""The updates of consecutive steps."""

Run = Callable[[Entries, History], tuple[History, object]]
"""From first parameters and the gradients of each step to the updates, and the last state."""

SCALES = (1.0, 1e4, 1e-4)
"""Sizes of the gradients in the trial: one that is clipped by an absolute bound shows it at one of them."""


def tried(run: Run) -> tuple[PairState, Scope]:
    """The structure of a pair's state, and what an update reads.

    Args:
        run: runs the pair.

    Raises:
        FunpipeError: it fails.
    """
    random = torch.Generator().manual_seed(0)
    params, *grads = (_draw(random, scale) for scale in (1.0, *SCALES))
    try:
        together, state = run(params, grads)
        structure = PairState.of(state, list(params))
        alone = {name: run({name: params[name]}, [{name: g[name]} for g in grads]) for name in params}
    except FunpipeError:
        raise
    except Exception as error:
        raise FunpipeError(
            f"from_pair: the pair fails on a trial with leaves 'a' of shape (3, 4) and 'b' of shape (5,): {error}; "
            f"let it take leaves of any name and shape, say what it reads by scope='leaf', or {REMEDY}"
        ) from error
    _check_traceable(run, params, grads)
    if not all(_equal([u[n] for u in together], [u[n] for u in found]) for n, (found, _) in alone.items()):
        return structure, "tree"
    slots = structure.cut(state, list(params)).values()
    is_mirrored = all(slot[n].shape == leaf.shape for slot in slots for n, leaf in params.items())
    return structure, "element" if is_mirrored and _is_elementwise(run, params, grads, together, random) else "leaf"


def _check_traceable(run: Run, params: Entries, grads: History) -> None:
    """Raises where a pair looks at values: a step is traced without them."""
    mode = _compat.fake_mode()
    fake = [{n: fake_like(TensorType.of(leaf), mode) for n, leaf in leaves.items()} for leaves in (params, *grads)]
    try:
        with mode:
            run(fake[0], fake[1:])
    except Exception as error:
        raise FunpipeError(
            f"from_pair: the pair cannot be traced without values ({type(error).__name__}: {error}): it may read "
            "one in Python, as in float(x), x.item() or `if x > 0`; compute with tensors alone, as torch.where "
            "does, and for clipping put fp.optim.clip_by_global_norm in front in a chain"
        ) from error


def _is_elementwise(run: Run, params: Entries, grads: History, expected: History, random: torch.Generator) -> bool:
    """Whether all elements, shuffled into one leaf, are updated alike; a pair may refuse such a leaf."""
    order = torch.randperm(sum(leaf.numel() for leaf in params.values()), generator=random)
    try:
        found, _ = run(_shuffled(params, order), [_shuffled(g, order) for g in grads])
    except (ValueError, TypeError, RuntimeError, IndexError):
        return False
    return _equal([_shuffled(u, order)["flat"] for u in expected], [u["flat"] for u in found])


def _draw(random: torch.Generator, scale: float) -> Entries:
    shapes = {"a": (3, 4), "b": (5,)}
    return {name: scale * torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}


def _shuffled(leaves: Entries, order: Tensor) -> Entries:
    return {"flat": torch.cat([leaf.reshape(-1) for leaf in leaves.values()])[order]}


def _equal(expected: list[Tensor], found: list[Tensor]) -> bool:
    pairs = zip(expected, found, strict=True)
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-9 * a.abs().max().item()) for a, b in pairs)
