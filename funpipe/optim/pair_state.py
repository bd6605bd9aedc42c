"""The state of a pair `(init, update)` as slots: a tensor for each leaf under each name, and back.

A pair keeps its state in any tree. In it, what belongs to the leaves is a dict with their names, or a list in the order
of their sorted names, as TorchOpt has it; a tensor that belongs to none, such as a counter, becomes one for each leaf.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optree
from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.optim.base import Entries, State

Kind = Literal["dict", "list", "tensor"]

REMEDY = "write it as fp.optim.Optimizer(init, update), whose context gives the step and the global norm"


@dataclass(frozen=True)
class PairState:
    """The structure of a pair's state.

    Args:
        slots: the names of its slots, their paths in the tree.
        kinds: how each is kept there.
        treedef: the tree that they hang on.
    """

    slots: tuple[str, ...]
    kinds: tuple[Kind, ...]
    treedef: optree.PyTreeSpec

    @staticmethod
    def of(state: Any, names: Sequence[str]) -> "PairState":
        """The structure of a state of some leaves.

        Raises:
            FunpipeError: it holds something other than tensors.
        """
        accessors, leaves, treedef = optree.tree_flatten_with_accessor(state, is_leaf=lambda x: _is_of_leaves(x, names))
        slots = tuple(".".join(map(_key, accessor)) or "state" for accessor in accessors)
        for slot, leaf in zip(slots, leaves, strict=True):
            if not isinstance(leaf, Tensor | dict | list):
                raise FunpipeError(
                    f"from_pair: the state holds {type(leaf).__name__} {leaf!r} at {slot!r}, where only tensors can be "
                    f"kept from step to step; make it one, such as torch.tensor({leaf!r}), or {REMEDY}"
                )
        return PairState(slots, tuple([_kind(leaf) for leaf in leaves]), treedef)

    def cut(self, state: Any, names: Sequence[str]) -> State:
        """From the pair's own state to slots.

        Raises:
            FunpipeError: it has another structure.
        """
        leaves, treedef = optree.tree_flatten(state, is_leaf=lambda x: _is_of_leaves(x, names))
        if treedef != self.treedef:
            raise FunpipeError(f"from_pair: the state changed from {self.treedef} to {treedef}; {REMEDY}")
        return {slot: _by_name(leaf, names) for slot, leaf in zip(self.slots, leaves, strict=True)}

    def join(self, state: State, names: Sequence[str]) -> Any:
        """From slots to the pair's own state."""
        parts = [_as_kept(kind, state[slot], names) for slot, kind in zip(self.slots, self.kinds, strict=True)]
        return optree.tree_unflatten(self.treedef, parts)


def _is_of_leaves(value: Any, names: Sequence[str]) -> bool:
    if isinstance(value, dict):
        return value.keys() == set(names) and all(isinstance(x, Tensor) for x in value.values())
    return isinstance(value, list) and len(value) == len(names) and all(isinstance(x, Tensor) for x in value)


def _key(entry: Any) -> str:
    """How an entry of a path is called: a named tuple's by its field."""
    return str(getattr(entry, "field", entry.entry))


def _kind(leaf: Any) -> Kind:
    return "tensor" if isinstance(leaf, Tensor) else "dict" if isinstance(leaf, dict) else "list"


def _by_name(leaf: Any, names: Sequence[str]) -> Entries:
    if isinstance(leaf, list):
        return dict(zip(sorted(names), leaf, strict=True))
    if isinstance(leaf, dict):
        return dict(leaf)
    return dict(zip(names, [leaf] * len(names), strict=True))


def _as_kept(kind: Kind, slot: Entries, names: Sequence[str]) -> Any:
    if kind == "list":
        return [slot[name] for name in sorted(names)]
    return {name: slot[name] for name in names} if kind == "dict" else slot[names[0]]
