"""A graph for every size: its integers as expressions of one size of one of its arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from funpipe._typing import TensorType
from funpipe.backends.dynamic.relation import Relation, relation
from funpipe.backends.dynamic.skeleton import skeleton, with_integers


@dataclass(frozen=True)
class Template:
    """What graphs of several sizes have in common.

    Args:
        text: their skeleton.
        argument, dim: where the size stands that all others follow.
        relations: of each integer of the skeleton to it.
    """

    text: str
    argument: int
    dim: int
    relations: tuple[Relation, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether it is for one size alone."""
        return all(r.is_fixed for r in self.relations)

    def fits(self, integers: Sequence[int], size: int) -> bool:
        """Whether a graph of the same skeleton is this one at a size: to the last integer.

        Args:
            integers: the graph's.
            size: that it has where this one's stands.
        """
        return all(r.at(size) == n for r, n in zip(self.relations, integers, strict=True))


def template(
    one: tuple[fx.Graph, Sequence[TensorType]], other: tuple[fx.Graph, Sequence[TensorType]]
) -> Template | None:
    """The template of a graph at two sizes.

    Args:
        one, other: the graph and the types of its arguments, at each size.

    Returns:
        The template; None where both are equal, differ in more than integers that follow a size of an argument, or have
        a size of 1.
    """
    (text, integers), (other_text, others) = skeleton(*one), skeleton(*other)
    if text != other_text or integers == others:
        return None
    sizes = [
        (n, m, i, d)
        for i, (a, b) in enumerate(zip(one[1], other[1], strict=True))
        for d, (n, m) in enumerate(zip(a.shape, b.shape, strict=True))
        if n != m
    ]
    if not sizes or any(n < 2 or m < 2 for n, m, _, _ in sizes):  # a size of 1 is broadcast
        return None
    size, other_size, argument, dim = min(sizes)
    found = [relation(n, m, size, other_size) for n, m in zip(integers, others, strict=True)]
    relations = tuple(r for r in found if r is not None)
    return Template(text, argument, dim, relations) if len(relations) == len(found) else None


def symbolic(module: fx.GraphModule, made: Template) -> fx.GraphModule:
    """A graph whose integers are worked out from a size of one of its arguments while it runs.

    Args:
        module: at one size.
        made: its template.
    """
    graph, copies = fx.Graph(), {}
    places = module.graph.find_nodes(op="placeholder")
    for node in places:
        copies[node] = graph.placeholder(node.name)
    size = graph.call_function(torch.ops.aten.sym_size.int, (copies[places[made.argument]], made.dim))
    counts = _argument_integers(made.text)
    left = iter(made.relations[counts:])
    expressions: dict[Relation, fx.Proxy | int] = {}

    def integer(value: int) -> fx.Node | int:
        found = next(left)
        if found.is_fixed:
            return value
        if found not in expressions:
            expressions[found] = found.at(fx.Proxy(size))
        made_of = expressions[found]
        return made_of.node if isinstance(made_of, fx.Proxy) else made_of

    for node in module.graph.nodes:
        args, kwargs = with_integers(node, integer, copies.__getitem__)
        if node.op == "output":
            graph.output(*args)
        elif node.op != "placeholder":
            copies[node] = graph.create_node(node.op, node.target, args, kwargs)
    return fx.GraphModule(module, graph)


def _argument_integers(text: str) -> int:
    """How many of a skeleton's integers are sizes and strides of arguments."""
    return sum(line.count("'#'") for line in text.splitlines() if line.startswith("torch."))


def layouts_at(types: Sequence[TensorType], made: Template, size: Any) -> list[tuple[list[Any], list[Any]]]:
    """Sizes and strides of the arguments at a size, which may stand for any.

    Args:
        types: at one size.
        made: the template.
        size: the size.
    """
    left = iter(made.relations)
    return [([next(left).at(size) for _ in t.shape], [next(left).at(size) for _ in t.stride]) for t in types]
