"""An optimizer from a pair `init(params)`, `update(grads, state, params) -> (updates, state)`.

Flat buckets ask that an update be elementwise. Nothing in a pair says whether it is, so it is tried out on random
values when it is adapted: on two leaves, on all their elements as one shuffled leaf, and on one of the leaves alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, Optimizer, State, describe, zero_slots
from funpipe.optim.context import Context

Init = Callable[[Entries], Any]
Update = Callable[[Entries, Any, Entries], tuple[Entries, Any]]

REMEDY = "write it as fp.optim.Optimizer(init, update), whose context gives the step and the global norm"
SCALES = (1.0, 1e4, 1e-4)
"""Sizes of the gradients in the trial: one that is clipped by an absolute bound shows it at one of them."""


def from_pair(init: Init, update: Update) -> Optimizer:
    """Adapts a pair of functions in the style of optax, written in torch; the parameters become `params + updates`.

    Args:
        init: `init(params) -> state`: any pytree of dicts with the parameters' keys and shapes; no counters.
        update: `update(grads, state, params) -> (updates, state)`: pure and elementwise.

    Returns:
        An `Optimizer` whose state has one slot per such dict, named by its path.

    Raises:
        FunpipeError: the state holds something else, or the update is not elementwise.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, from_pair
        >>> def sign(grads, state, params):
        ...     return {name: -0.1 * g.sign() for name, g in grads.items()}, state
        >>> optimizer = from_pair(lambda params: (), sign)
        >>> apply(optimizer, {"w": torch.ones(2)}, {"w": torch.ones(2)}, {}, torch.tensor(0))[0]
        {'w': tensor([0.9000, 0.9000])}
    """
    pair = _tried(init, update)

    def adapted(grads: Entries, state: State, params: Entries, ctx: Context) -> tuple[Entries, State]:
        if not params:
            return params, state
        updates, new_state = update(grads, pair.join(state), params)
        return {name: (p + updates[name]).to(p.dtype) for name, p in params.items()}, pair.cut(new_state, params)

    return Optimizer(
        init=lambda params: pair.cut(init(params), params) if params else zero_slots(params, *pair.slots),
        update=adapted,
        name=describe("from_pair", init=init, update=update),
    )


@dataclass(frozen=True)
class _State:
    """The structure of a pair's state: the names of its slots and the tree they hang on."""

    slots: tuple[str, ...]
    treedef: optree.PyTreeSpec

    @staticmethod
    def of(state: Any, params: Entries) -> "_State":
        paths, leaves, treedef = optree.tree_flatten_with_path(state, is_leaf=lambda x: _mirrors(x, params))
        for path, leaf in zip(paths, leaves, strict=True):
            if not _mirrors(leaf, params):
                raise FunpipeError(
                    f"from_pair: the state holds {type(leaf).__name__} {leaf!r} at {_slot(path)!r}, where only dicts "
                    f"with the parameters' names and shapes can be cut into stages; {REMEDY}"
                )
        return _State(tuple(map(_slot, paths)), treedef)

    def join(self, state: State) -> Any:
        """From slots to the pair's own state."""
        return optree.tree_unflatten(self.treedef, [state[slot] for slot in self.slots])

    def cut(self, state: Any, params: Entries) -> State:
        """From the pair's own state to slots."""
        leaves, treedef = optree.tree_flatten(state, is_leaf=lambda x: _mirrors(x, params))
        if treedef != self.treedef:
            raise FunpipeError(f"from_pair: the state changed from {self.treedef} to {treedef}; {REMEDY}")
        return dict(zip(self.slots, leaves, strict=True))


def _mirrors(value: Any, params: Entries) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == params.keys()
        and all(isinstance(x, Tensor) and x.shape == params[name].shape for name, x in value.items())
    )


def _slot(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path)) or "state"


def _tried(init: Init, update: Update) -> _State:
    """Runs the pair on random values, and gives the structure of its state."""
    random = torch.Generator().manual_seed(0)
    params, *grads = (_draw(random, scale) for scale in (1.0, *SCALES))
    order = torch.randperm(17, generator=random)
    try:
        structure = _State.of(init(params), params)
        together = _updates(init, update, params, grads)
        shuffled = _updates(init, update, _shuffle(params, order), [_shuffle(g, order) for g in grads])
        alone = _updates(init, update, {"a": params["a"]}, [{"a": g["a"]} for g in grads])
    except FunpipeError:
        raise
    except Exception as error:
        raise FunpipeError(
            f"from_pair: the pair fails on a trial with leaves 'a' of shape (3, 4) and 'b' of shape (5,): {error}; "
            f"let it take leaves of any name and shape, or {REMEDY}"
        ) from error
    for entry, first, flat, one in zip(SCALES, together, shuffled, alone, strict=True):
        _check_equal(entry, _shuffle(first, order)["flat"], flat["flat"], "split into leaves otherwise")
        _check_equal(entry, first["a"], one["a"], "without the other leaves")
    return structure


def _draw(random: torch.Generator, scale: float) -> Entries:
    shapes = {"a": (3, 4), "b": (5,)}
    return {name: scale * torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}


def _shuffle(leaves: Entries, order: Tensor) -> Entries:
    return {"flat": torch.cat([leaf.reshape(-1) for leaf in leaves.values()])[order]}


def _updates(init: Init, update: Update, params: Entries, grads: list[Entries]) -> list[Entries]:
    """The updates of consecutive steps."""
    state, history = init(params), []
    for grad in grads:
        updates, state = update(grad, state, params)
        history.append(updates)
        params = {name: p + updates[name] for name, p in params.items()}
    return history


def _check_equal(scale: float, expected: Tensor, found: Tensor, how: str) -> None:
    if not torch.allclose(expected, found, rtol=1e-9, atol=1e-9 * expected.abs().max().item()):
        worst = (expected - found).abs().max().item()
        raise FunpipeError(
            f"from_pair: the update is not elementwise: with gradients of size {scale:g} its results {how} differ by "
            f"{worst:g}; an update must not depend on other elements: for clipping put "
            f"fp.optim.clip_by_global_norm in front in a chain, else {REMEDY}"
        )
