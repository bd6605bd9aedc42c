"""An optimizer is two pure functions, `init` and `update`, over a flat dict of tensors.

The dict's entries are either the model's leaves by name, or flat buckets: 1-D buffers that each hold many leaves of
one label. The same `update` runs over both and gives the same bits, which is what keeps a pipelined update one kernel
per bucket. So an update is elementwise within an entry; a setting that differs between leaves (a weight-decay mask) is
expressed through labels, and what needs all gradients (the norm) comes from the context.

One that cannot be elementwise says so by its `scope`: with `"leaf"` its entries are always whole leaves in their own
shapes, one at a time, never a bucket and never a part of a leaf, and its slots may have any shape; with `"tree"` it
gets all leaves at once, which only a model that is one bucket can give it.

A frozen or unused leaf is absent from the dict: a leaf whose gradient is zero is still decayed and still moved by its
momentum, as in `torch.optim`, where `None` gradients are skipped and zero ones are not.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim.context import Context
from funpipe.optim.settings import Settings

Entries = dict[str, Tensor]
"""Tensors by name: leaves, or flat buckets."""

State = dict[str, Any]
"""Slots by name, each with the parameters' keys and shapes (`{"m": {...}, "v": {...}}`); a chain's: states by index."""

Label = Callable[[str, Tensor], Hashable]
"""Which group a leaf (name, tensor) is in; leaves of different labels never share a bucket."""

Scope = Literal["element", "leaf", "tree"]
"""What one element's update reads: itself, its leaf, or all leaves of the model."""

SCOPES: tuple[Scope, ...] = ("element", "leaf", "tree")
"""From the narrowest to the widest."""

Rate = Tensor | Mapping[Any, Tensor]
"""A learning rate from outside an optimizer: a 0-dim tensor, or one for each group by its name."""


def widest(scopes: Iterable[Scope]) -> Scope:
    """The widest of some scopes, of none the narrowest.

    Example:
        >>> widest(["element", "leaf"])
        'leaf'
    """
    return SCOPES[max(map(SCOPES.index, scopes), default=0)]


def no_scalars(step: Tensor) -> Entries:
    """The scalars of what has none."""
    return {}


def no_state(params: Entries) -> State:
    """The state of what has none."""
    return {}


@dataclass(frozen=True)
class Optimizer:
    """An optimizer as two pure functions.

    Args:
        init: `init(params) -> state`; slots only, no step count: the step comes from the context.
        update: `update(grads, state, params, ctx) -> (params, state)`; pure, elementwise unless `scope` says otherwise.
        label: `label(name, leaf)`, the group of a leaf, which `update` reads as `ctx.label(entry)`; None: one group.
        needs_norm: whether `update` calls `ctx.global_norm()`.
        scalars: `scalars(step) -> {name: 0-dim float64 tensor}`, what depends on the step alone (learning rate, bias
            corrections); run once per step, read as `ctx.scalars`. A compiled update takes them as inputs: computed in
            the same graph they are inlined into the loop over the entries, powers and cosines included, which made
            AdamW over a million elements 7 times slower.
        name: how it prints.
        scalars_at: `scalars_at(step, lr)`, the scalars with another learning rate (`Rate`) in place of its own; None:
            the learning rate cannot be given from outside.
        group: `group(label)`, the optimizer that updates the leaves of a label, the label that this one gives them, and
            the name of the group; None: there are no groups.
        settings: what it was made from, for passes that rewrite it; None: it is known by its functions alone.
        scope: what one element's update reads: `"element"`, itself; `"leaf"`, the whole leaf, whose entry then has the
            leaf's shape; `"tree"`, all leaves of the model.
        before_norm: `before_norm(grads, state, params, ctx) -> grads`, elementwise, the gradients whose norm
            `ctx.global_norm()` is; None: those that it is given.
        needs_key: whether `update` reads `ctx.key`; the step must have one, and the scope is not `"element"`.
        needs_names: whether `update` reads the names of its entries, the leaves; so does one that `needs_key`.
        patterns: of names, each of which must match a leaf of the model; `label` goes by them.

    Raises:
        FunpipeError: it draws or reads names, and its scope is `"element"`.

    Example:
        >>> import torch
        >>> from funpipe.optim import Optimizer, apply
        >>> def descend(grads, state, params, ctx):
        ...     return {name: p - 0.5 * grads[name] for name, p in params.items()}, state
        >>> optimizer = Optimizer(init=lambda params: {}, update=descend, name="descend")
        >>> apply(optimizer, {"w": torch.ones(2)}, {"w": torch.ones(2)}, {}, torch.tensor(0))
        ({'w': tensor([0.5000, 0.5000])}, {})
    """

    init: Callable[[Entries], State]
    update: Callable[[Entries, State, Entries, Context], tuple[Entries, State]]
    label: Label | None = None
    needs_norm: bool = False
    scalars: Callable[[Tensor], Entries] = no_scalars
    name: str = "optimizer"
    scalars_at: Callable[[Tensor, Rate], Entries] | None = None
    group: Callable[[Hashable], tuple["Optimizer", Hashable, str]] | None = None
    settings: Settings | None = None
    scope: Scope = "element"
    before_norm: Callable[[Entries, State, Entries, Context], Entries] | None = None
    needs_key: bool = False
    needs_names: bool = False
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.is_named and self.scope == "element":
            raise FunpipeError(
                f"{self} draws or reads names, and its scope is 'element': its entries would be buckets, whose names "
                "and sizes depend on the cut. Say scope='leaf'."
            )

    @property
    def is_named(self) -> bool:
        """Whether leaves of other names are updated otherwise, as where noise is drawn for each."""
        return self.needs_key or self.needs_names

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Transform:
    """A change of the gradients before an optimizer reads them; goes in front of one in a `chain`.

    Args:
        init: `init(params) -> state`, slots as an optimizer's.
        apply: `apply(grads, state, params, ctx) -> (grads, state)`; pure, elementwise unless `scope` says otherwise.
        label: as an optimizer's.
        needs_norm: whether `apply` calls `ctx.global_norm()`.
        scalars: as an optimizer's.
        name: how it prints.
        settings: as an optimizer's.
        scope: as an optimizer's.
        needs_key: as an optimizer's.
        needs_names: as an optimizer's.

    Example:
        >>> from funpipe.optim import Transform, chain, sgd
        >>> def reverse(grads, state, params, ctx):
        ...     return {name: -g for name, g in grads.items()}, state
        >>> print(chain(Transform(lambda params: {}, reverse, name="reverse"), sgd(0.1)))
        chain(reverse, sgd(lr=0.1))
    """

    init: Callable[[Entries], State]
    apply: Callable[[Entries, State, Entries, Context], tuple[Entries, State]]
    label: Label | None = None
    needs_norm: bool = False
    scalars: Callable[[Tensor], Entries] = no_scalars
    name: str = "transform"
    settings: Settings | None = None
    scope: Scope = "element"
    needs_key: bool = False
    needs_names: bool = False

    def __str__(self) -> str:
        return self.name


def zero_slots(params: Entries, *slots: str) -> State:
    """State of zeros: one slot per name, each with the parameters' keys, shapes and dtypes.

    Args:
        params: leaves or buckets, of a real floating-point dtype.
        *slots: the slots' names.

    Returns:
        `{slot: {entry: zeros}}`.

    Raises:
        FunpipeTypeError: an entry is not of a real floating-point dtype.

    Example:
        >>> import torch
        >>> zero_slots({"w": torch.ones(2)}, "m", "v")
        {'m': {'w': tensor([0., 0.])}, 'v': {'w': tensor([0., 0.])}}
    """
    for name, leaf in params.items():
        if not leaf.is_floating_point():
            raise FunpipeTypeError(
                f"parameter {name!r} is {leaf.dtype}, and an optimizer updates real floating-point tensors only; "
                f"leave {name!r} out of the parameters (as a buffer), or store a complex one as torch.view_as_real(x)"
            )
    return {slot: {name: torch.zeros_like(leaf) for name, leaf in params.items()} for slot in slots}


def map_slots(function: Callable[[Entries], Entries], state: State) -> State:
    """Applies a function to each slot of a state, chains included: how buckets are cut into leaves and back.

    Args:
        function: from a slot's entries (buckets, or leaves) to its new entries.
        state: of an optimizer or of a chain.

    Returns:
        The state with each slot replaced.

    Example:
        >>> import torch
        >>> state = {"0": {}, "1": {"m": {"flat": torch.tensor([1.0, 2.0])}}}
        >>> map_slots(lambda slot: {"a": slot["flat"][:1], "b": slot["flat"][1:]}, state)
        {'0': {}, '1': {'m': {'a': tensor([1.]), 'b': tensor([2.])}}}
    """
    if state and all(isinstance(value, Tensor) for value in state.values()):
        return function(state)
    return {name: map_slots(function, part) for name, part in state.items()}


def describe(name: str, **settings: object) -> str:
    """How an optimizer prints: `adam(lr=0.1)`, functions by their name, the same text in every process."""
    shown = (f"{key}={getattr(value, '__qualname__', value)}" for key, value in settings.items())
    return f"{name}({', '.join(shown)})"
