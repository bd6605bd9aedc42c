"""`Node`: one operator call as data, and the references by which its arguments name other values."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

Type = Any
"""Of a value: a `TensorType`, a tuple of types for several results, None for a number or for nothing."""


@dataclass(frozen=True)
class Ref:
    """Stands, in the arguments of a node, for the value of a name."""

    name: str

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True, eq=False)
class Node:
    """One operator call.

    Args:
        name: of its value; unique in the graph, inputs included.
        target: an operator of torch, or `operator.getitem` for one of several results.
        args: positional arguments: numbers, dtypes, lists of them, and `Ref` for values.
        kwargs: arguments by name.
        type: of its value.
        path: the dotted path of the module it ran in, None outside any.
        source: the user's line, `"file:line"`, None if unknown.
        origin: the pass that made it; empty for what was traced.
    """

    name: str
    target: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    type: Type = None
    path: str | None = None
    source: str | None = None
    origin: str = ""

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names of the values that it reads, each once, in the order of its arguments."""
        return tuple(dict.fromkeys(r.name for r in refs_in((self.args, tuple(self.kwargs.values())))))

    def renamed(self, names: Mapping[str, str]) -> "Node":
        """The same call of other values.

        Args:
            names: the new name of each value that is replaced.
        """
        if not any(name in names for name in self.reads):
            return self
        swap = _swap(names)
        return replace(
            self, args=map_refs(swap, self.args), kwargs={k: map_refs(swap, v) for k, v in self.kwargs.items()}
        )

    @property
    def where(self) -> str:
        """How a message says where it comes from: name, operator, and the user's line if there is one."""
        at = f" at {self.source}" if self.source else ""
        return f"{self.name} ({operator_name(self.target)}{at})"

    def __str__(self) -> str:
        from funpipe.graphs.text import node_text

        return node_text(self)

    def __repr__(self) -> str:
        return f"<Node {self.where}>"


def _swap(names: Mapping[str, str]) -> Callable[[Ref], Ref]:
    return lambda ref: Ref(names[ref.name]) if ref.name in names else ref


def operator_name(target: Any) -> str:
    """How an operator is written: `aten.addmm.default`, `getitem`."""
    return str(target) if hasattr(target, "_schema") else target.__name__


def given(call: Any) -> dict[str, Any]:
    """The arguments of a call by the names that its operator has for them; those left to defaults are absent.

    Args:
        call: a `Node`, or a node of torch.fx, whose target is an operator of torch.
    """
    names = (argument.name for argument in call.target._schema.arguments)
    return dict(zip(names, call.args, strict=False)) | dict(call.kwargs)


def refs_in(value: Any) -> Iterator[Ref]:
    """The references in an argument, in order; lists, tuples and dicts may be nested.

    Args:
        value: the argument.

    Returns:
        The references, one for each place.

    Example:
        >>> [str(ref) for ref in refs_in([Ref("a"), 1, (Ref("b"),)])]
        ['%a', '%b']
    """
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from refs_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from refs_in(item)


def map_refs(function: Callable[[Ref], Any], value: Any) -> Any:
    """An argument with each reference replaced.

    Args:
        function: from a reference to what takes its place.
        value: the argument; lists stay lists, tuples tuples.

    Returns:
        The argument of the same structure.

    Example:
        >>> map_refs(lambda ref: Ref(ref.name.upper()), [Ref("a"), 1, (Ref("b"),)])
        [Ref(name='A'), 1, (Ref(name='B'),)]
    """
    if isinstance(value, Ref):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)(map_refs(function, item) for item in value)
    if isinstance(value, Mapping):
        return {key: map_refs(function, item) for key, item in value.items()}
    return value
