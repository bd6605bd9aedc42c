"""What to defer, said by what it is: the waits of a bucket, a collective, an update, or anything with all behind it.

Collectives are numbered in the order in which they start, so after bucketing a number is that of a bucket. What depends
on a chosen node is chosen, too: nothing of this step can read what the next step makes.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import get_args

from funpipe._errors import FunpipeTypeError, RotateError
from funpipe.functional.communication import Axis
from funpipe.graphs.communication import is_start
from funpipe.graphs.graph import Graph
from funpipe.graphs.near import near
from funpipe.graphs.search import Predicate, find
from funpipe.passes.rotation.finding import behind, leaves_text, makers, starts, waits_of

_AXES = get_args(Axis)


@dataclass(frozen=True)
class Selector:
    """Chooses nodes of a graph; `a | b` chooses what either does.

    Args:
        text: how it prints.
        choose: from a graph to the names of nodes.
    """

    text: str
    choose: Callable[[Graph], frozenset[str]]

    def __call__(self, graph: Graph) -> frozenset[str]:
        return self.choose(graph)

    def __or__(self, other: "Selector") -> "Selector":
        return Selector(f"{self} | {other}", lambda graph: self.choose(graph) | other.choose(graph))

    def __str__(self) -> str:
        return self.text


Defer = Selector | Predicate | Collection[str]
"""What to defer: a selector, a predicate of nodes, or names of nodes; the last two choose no more than they say."""


def waits(*numbers: int, axis: str | None = None) -> Selector:
    """The waits of collectives and all that depends on them: the collectives start in this step, and run meanwhile.

    Args:
        *numbers: which, in the order in which the collectives start; negative ones count from the end. By default all
            on which nothing but the new state depends: not that of a loss that is returned.
        axis: number those on one mesh axis alone (`"dp"`, `"pp"`, `"world"`).

    Returns:
        The selector.

    Raises:
        RotateError: the axis is none; or, when it is applied, the graph has no such collective.
        FunpipeTypeError: what is given is no number.

    Example:
        >>> print(waits(0) | waits(2))
        waits(0) | waits(2)
    """
    return Selector(_text("waits", numbers, axis), lambda graph: behind(graph, waits_of(graph, numbers, axis)))


def collectives(*numbers: int, axis: str | None = None) -> Selector:
    """Collectives, their waits and all that depends on them.

    Each starts just before its wait; `hoist_starts` over the rotated step lets it run while the next step begins.

    Args:
        *numbers: which, in the order in which they start; negative ones count from the end. By default all on which
            nothing but the new state depends.
        axis: number those on one mesh axis alone.

    Returns:
        The selector.

    Raises:
        RotateError: the axis is none; or, when it is applied, the graph has no such collective.
        FunpipeTypeError: what is given is no number.

    Example:
        >>> print(collectives(-1, axis="dp"))
        collectives(-1, axis='dp')
    """
    return Selector(_text("collectives", numbers, axis), lambda graph: behind(graph, starts(graph, numbers, axis)))


def updates(leaves: Collection[str] | Callable[[str], bool]) -> Selector:
    """The nodes that make new leaves of the state, and all that depends on them.

    Args:
        leaves: names of leaves (`"params.0.weight"`), or a predicate of names. An update of several leaves is one node:
            split it first, if the others are not to be deferred.

    Returns:
        The selector.

    Raises:
        RotateError: when it is applied to a graph whose state has no such leaf.

    Example:
        >>> print(updates({"params.w"}))
        updates(['params.w'])
    """
    text = f"updates({getattr(leaves, '__name__', leaves) if callable(leaves) else sorted(leaves)})"
    return Selector(text, lambda graph: behind(graph, makers(graph, leaves)))


def closure_of(predicate: Predicate) -> Selector:
    """The nodes of which a predicate holds, and all that depends on them.

    Args:
        predicate: says of a node whether it is chosen.

    Returns:
        The selector.

    Example:
        >>> from funpipe.graphs.communication import is_wait
        >>> print(closure_of(is_wait))
        closure_of(is_wait)
    """
    text = f"closure_of({getattr(predicate, '__name__', predicate)})"
    return Selector(text, lambda graph: behind(graph, [node.name for node in find(graph, predicate)]))


def chosen(graph: Graph, defer: Defer) -> frozenset[str]:
    """The names of the nodes that are to be deferred.

    Args:
        graph: the graph.
        defer: what to defer.

    Raises:
        RotateError: nothing is chosen, or a name is no node.
    """
    if isinstance(defer, Selector):
        found = defer(graph)
    elif callable(defer):
        found = frozenset(node.name for node in find(graph, defer))
    else:
        found = frozenset([defer] if isinstance(defer, str) else defer)
    unknown = sorted(name for name in found if name not in graph.by_name)
    if unknown:
        raise RotateError(
            f"defer names {unknown[0]!r}, and the graph has no such node; {near(unknown[0], graph.by_name)}"
        )
    if not found:
        raise RotateError(f"defer={defer} chooses no node, so there is nothing to rotate: {_offer(graph)}")
    return found


def _offer(graph: Graph) -> str:
    count = len(find(graph, is_start))
    if count:
        several = f"passes.waits(0) to passes.waits({count - 1}) choose" if count > 1 else "passes.waits(0) chooses"
        return f"of the graph's collectives {several} something, and {leaves_text(graph)}"
    return leaves_text(graph)


def _text(name: str, numbers: Sequence[int], axis: str | None) -> str:
    """How a selector prints; its arguments are looked at first."""
    wrong = [number for number in numbers if not isinstance(number, int)]
    if wrong:
        hint = f"; for an axis write {name}(axis={wrong[0]!r})" if wrong[0] in _AXES else ""
        raise FunpipeTypeError(
            f"{name}: {wrong[0]!r} is no number of a collective: pass numbers such as {name}(0){hint}."
        )
    if axis not in (None, *_AXES):
        raise RotateError(f"{name}: axis is {axis!r}; use one of {', '.join(map(repr, _AXES))}, or leave it out.")
    given = [str(number) for number in numbers] + ([f"axis={axis!r}"] if axis else [])
    return f"{name}({', '.join(given)})"
