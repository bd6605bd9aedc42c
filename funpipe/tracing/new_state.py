"""The state that a step returns must be one that the next step can be given."""

from collections.abc import Mapping

import optree
from optree import PyTreeSpec
from torch import Tensor

from funpipe._errors import TreeError
from funpipe._typing import Tree
from funpipe.functional.names import check_names
from funpipe.functional.tree import named_leaves, place, type_text


def check_new_state(new: Tree, spec: PyTreeSpec, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The leaves of a new state by name.

    Args:
        new: what the step returned.
        spec: the structure of the state that it was given.
        old: its leaves by name.

    Raises:
        TreeError: the tree is another one, or a leaf has another shape, dtype or device.
    """
    leaves, found = named_leaves(new, "the new state")
    check_names(old, leaves, "the new state")
    if found != spec:
        raise TreeError(
            f"the new state is the tree {_shown(found)}, and the one that the step was given is {_shown(spec)}: "
            "build it of the same containers, as with optree.tree_map."
        )
    for name, leaf in old.items():
        _check_leaf(name, leaves[name], leaf)
    return {name: leaves[name] for name in old}


def _check_leaf(name: str, new: Tensor, old: Tensor) -> None:
    if new.shape != old.shape:
        raise TreeError(_differs(name, new, old, f"return one of shape {tuple(old.shape)}"))
    if new.dtype != old.dtype:
        raise TreeError(_differs(name, new, old, f"return it .to({old.dtype})"))
    if "meta" not in (new.device.type, old.device.type) and new.device.type != old.device.type:
        raise TreeError(
            f"the new state: {place(name)} is on {new.device.type}, and the step was given it on {old.device.type}: "
            f"return it .to({old.device.type!r})."
        )


def _differs(name: str, new: Tensor, old: Tensor, remedy: str) -> str:
    return (
        f"the new state: {place(name)} is {type_text(new)}, and the step was given {type_text(old)}, so no next step "
        f"could take it: {remedy}."
    )


def _shown(spec: PyTreeSpec) -> str:
    return str(optree.tree_unflatten(spec, ["*"] * spec.num_leaves)).replace("'*'", "*")
