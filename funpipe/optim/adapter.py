"""An optimizer from a pair `init(params)`, `update(grads, state, params) -> (updates, state)`."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from funpipe._errors import FunpipeTypeError
from funpipe.optim.base import SCOPES, Entries, Optimizer, Scope, State, describe, zero_slots
from funpipe.optim.context import Context
from funpipe.optim.pair_state import PairState
from funpipe.optim.pair_trial import History, tried

Init = Callable[[Entries], Any]
Update = Callable[..., tuple[Entries, Any]]


def from_pair(init: Init | Any, update: Update | None = None, scope: Scope | None = None) -> Optimizer:
    """Adapts a pair of functions in the style of optax and TorchOpt; the parameters become `params + updates`.

    A pair that is elementwise runs on flat buckets; one that reads whole leaves, or keeps a counter, on leaves, each
    alone; one that reads all leaves at once, such as a clipping by the global norm, needs a model of one stage and one
    dtype.

    Args:
        init: `init(params) -> state`: any pytree of tensors, and of dicts or lists of them by leaf; or the pair itself,
            such as `torchopt.adam(1e-3)`, an object with `init` and `update`.
        update: `update(grads, state, params) -> (updates, state)`, pure, over dicts of tensors by name; TorchOpt's
            `update(grads, state, *, params, inplace)` is called with `inplace=False`.
        scope: `"element"`, `"leaf"` or `"tree"`, what an update reads; None: found out by running it on random values.

    Returns:
        An `Optimizer` whose state has one slot per dict, list or tensor of the pair's state, named by its path.

    Raises:
        FunpipeError: the state holds something else, or the pair fails in the trial.
        FunpipeTypeError: there is no pair, or no such scope.

    Example:
        >>> import torch
        >>> from funpipe.optim import apply, from_pair
        >>> def sign(grads, state, params):
        ...     return {name: -0.1 * g.sign() for name, g in grads.items()}, state
        >>> optimizer = from_pair(lambda params: (), sign)
        >>> apply(optimizer, {"w": torch.ones(2)}, {"w": torch.ones(2)}, {}, torch.tensor(0))[0]
        {'w': tensor([0.9000, 0.9000])}
    """
    first, change = _pair(init, update)
    name = describe("from_pair", init=first, update=change)
    change = _called(change)

    def run(params: Entries, grads: History) -> tuple[History, Any]:
        state, history = first(params), []
        for grad in grads:
            updates, state = change(grad, state, params)
            history.append(updates)
            params = {name: p + updates[name] for name, p in params.items()}
        return history, state

    structure, reads = tried(run) if scope is None else (_structure(first), _checked(scope))

    def adapted(grads: Entries, state: State, params: Entries, ctx: Context) -> tuple[Entries, State]:
        new: Entries = {}
        slots: State = {slot: {} for slot in structure.slots}
        for names in _parts(params, reads):
            given, leaves = ({name: entries[name] for name in names} for entries in (grads, params))
            updates, own = change(given, structure.join(state, names), leaves)
            new |= {name: (p + updates[name]).to(p.dtype) for name, p in leaves.items()}
            _collect(slots, structure.cut(own, names))
        return new, slots

    def initial(params: Entries) -> State:
        slots = zero_slots(params, *structure.slots) if reads == "element" else {slot: {} for slot in structure.slots}
        for names in _parts(params, reads):
            _collect(slots, structure.cut(first({name: params[name] for name in names}), names))
        return slots

    return Optimizer(init=initial, update=adapted, name=name, scope=reads)


def _pair(init: Any, update: Update | None) -> tuple[Init, Update]:
    found = (init, update) if update is not None else (getattr(init, "init", None), getattr(init, "update", None))
    if not all(map(callable, found)):
        raise FunpipeTypeError(
            f"from_pair: got {type(init).__name__} and {type(update).__name__}; pass two functions, from_pair(init, "
            "update), or an object with both, such as torchopt.adam(1e-3)"
        )
    return found  # type: ignore[return-value]


def _called(update: Update) -> Update:
    """The pair's update as one of (grads, state, params)."""
    try:
        taken = inspect.signature(update).parameters
    except ValueError:  # of a builtin nothing is known
        return update
    if "inplace" in taken:
        return lambda grads, state, params: update(grads, state, params=params, inplace=False)
    if "params" in taken and taken["params"].kind is inspect.Parameter.KEYWORD_ONLY:
        return lambda grads, state, params: update(grads, state, params=params)
    return update


def _structure(init: Init) -> PairState:
    return PairState.of(init({"a": torch.zeros(3, 4), "b": torch.zeros(4, 3)}), ["a", "b"])


def _checked(scope: Scope) -> Scope:
    if scope not in SCOPES:
        raise FunpipeTypeError(f"from_pair: scope is {scope!r}; use one of {', '.join(map(repr, SCOPES))}")
    return scope


def _parts(params: Entries, reads: Scope) -> Sequence[list[str]]:
    """The entries that are updated together."""
    return [list(params)] * bool(params) if reads == "tree" else [[name] for name in params]


def _collect(slots: State, found: State) -> None:
    for slot, entries in found.items():
        slots[slot].update(entries)
