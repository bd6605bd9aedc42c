"""Dataclasses that a model takes or returns, for torch.export, which knows none that nobody told it of.

To tell it would be for the whole process, and whoever told it again would get an error. So it is given other containers
in their place, and the model gets dataclasses again.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optree
from torch import nn

from funpipe.functional import register_container, torch_containers
from funpipe.interop.pipelining.trees import NAMESPACE, flatten, learn_dataclass


@dataclass(frozen=True)
class Fields:
    """What stands for a dataclass.

    Args:
        kind: the dataclass.
        values: of its fields.
    """

    kind: type
    values: dict[str, Any]


register_container(
    Fields,
    lambda fields: (list(fields.values.values()), (fields.kind, tuple(fields.values))),
    lambda children, context: Fields(context[0], dict(zip(context[1], children, strict=True))),
)

_replaced: set[type] = set()
"""Dataclasses that torch did not know when one was first seen; what it is told later changes nothing."""


def plain(tree: Any) -> Any:
    """A tree with `Fields` in place of the dataclasses that torch does not know.

    Args:
        tree: what a model takes or returns.

    Example:
        >>> Output = dataclasses.make_dataclass("Output", ["logits"])
        >>> plain([Output(1), 2])[0].values
        {'logits': 1}
    """
    return _converted(tree, _is_unknown, _fields)


def whole(tree: Any) -> Any:
    """A tree with dataclasses again.

    Args:
        tree: as `plain` gave it.

    Example:
        >>> Output = dataclasses.make_dataclass("Output", ["logits"])
        >>> whole(plain({"out": Output(1)}))
        {'out': Output(logits=1)}
    """
    return _converted(tree, _is_fields, lambda fields: fields.kind(**{n: whole(v) for n, v in fields.values.items()}))


def _converted(tree: Any, is_one: Callable[[Any], bool], convert: Callable[[Any], Any]) -> Any:
    flatten(tree)  # learns of the containers that torch knows
    leaves, structure = optree.tree_flatten(tree, is_one, none_is_leaf=True, namespace=NAMESPACE)
    if not any(map(is_one, leaves)):
        return tree
    return structure.unflatten([convert(leaf) if is_one(leaf) else leaf for leaf in leaves])


def _is_fields(value: Any) -> bool:
    return isinstance(value, Fields)


def _is_unknown(value: Any) -> bool:
    kind = type(value)
    if not dataclasses.is_dataclass(kind) or kind is Fields:
        return False
    takes_all = all(field.init for field in dataclasses.fields(kind))
    return kind in _replaced or (takes_all and kind not in torch_containers())


def _fields(value: Any) -> Fields:
    _replaced.add(type(value))
    learn_dataclass(type(value))
    return Fields(type(value), {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)})


@contextmanager
def replacing_dataclasses(mod: nn.Module) -> Iterator[None]:
    """Within it a model takes `Fields` for dataclasses, and returns them.

    Args:
        mod: the model.
    """
    handles = (
        mod.register_forward_pre_hook(lambda module, args, kwargs: whole((args, kwargs)), with_kwargs=True),
        mod.register_forward_hook(lambda module, args, output: plain(output)),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Structure:
    """The containers of what an exported model returns, dataclasses among them.

    Args:
        exported: with `Fields`, as its export says.
    """

    exported: Any

    @property
    def num_leaves(self) -> int:
        """Of a tree of these containers."""
        return self.exported.num_leaves

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """A tree of leaves.

        Args:
            leaves: in order.
        """
        return whole(self.exported.unflatten(leaves))

    def flatten_up_to(self, tree: Any) -> list[Any]:
        """The leaves of a tree.

        Args:
            tree: of these containers.
        """
        return self.exported.flatten_up_to(plain(tree))
