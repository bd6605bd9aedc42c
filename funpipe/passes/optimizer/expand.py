"""Writing updates out, operator by operator, for a compiler to make kernels of."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

from funpipe.graphs import Graph, Node, Ref
from funpipe.graphs.dead import eliminate_dead
from funpipe.passes.base import Pass
from funpipe.passes.optimizer.calls import UpdateCall, updates
from funpipe.passes.optimizer.flat import cut, flattened
from funpipe.passes.optimizer.inline import Inliner
from funpipe.passes.optimizer.replacing import Replacements
from funpipe.passes.optimizer.rule import Rule

Written = tuple[list[Node], list[str]]
"""Nodes, and the names of the values that they are written for."""


def expand_updates(flat: bool = False) -> Pass:
    """Writes the updates of `fp.optim` out as the operators that they are made of. Bits do not change.

    What depends on the step alone, such as bias corrections, is computed once for all updates of one optimizer. The
    fused operators of torch are left alone.

    Args:
        flat: put the leaves of an update one after the other into one flat tensor, update that, and cut it again:
            few operators compute, however many leaves there are, for copies of parameters, gradients and slots. An
            update of one leaf, of gradients or slots of several dtypes, or one that reads whole leaves, is written leaf
            by leaf.

    Returns:
        A pass over graphs. Values keep their names.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(w, x):
        ...     return fp.optim.apply(fp.optim.sgd(0.5), {"w": w}, {"w": x}, {}, torch.tensor(0))[0]["w"], {}
        >>> traced = fp.trace_step(step, torch.ones(2), torch.ones(2))
        >>> [str(node.target) for node in expand_updates()(traced).graph.nodes][-2:]
        ['aten.mul.Tensor', 'aten.sub.Tensor']
    """
    return Pass("expand_updates", partial(_expanded, flat))


def _expanded(flat: bool, graph: Graph) -> Graph:
    inliner = Inliner(graph, "expand_updates")
    made = Replacements(inliner)
    for call in updates(graph):
        if call.kind == "update":
            made.by_nodes(call.call, *_written_out(call, Rule.of(graph, call), inliner, flat))
    return eliminate_dead(made.graph())


def _written_out(call: UpdateCall, rule: Rule, inliner: Inliner, flat: bool) -> Written:
    """The operators of an update, and for each of its results the value that it is."""
    like, names = call.call.node, (call.settings["optimizer"], call.settings["label"])
    nodes, scalars = inliner.write(
        rule.scalars, [call.steps[0], *_names(call.settings["lr"])], like, ("scalars", names[0])
    )
    rest = [call.steps[0], *_names(call.settings["norm"]), *scalars]
    rows = [call.params, call.grads, *call.slots.values()]
    if flat and rule.optimizer.scope == "element" and _can_be_flat(inliner, rows):
        made, new = _as_one(rows, inliner, like, lambda whole: inliner.write(rule.leaf, [*whole, *rest], like, names))
        return [*nodes, *made], new
    leaves = [inliner.write(rule.leaf, [*leaf, *rest], like, names) for leaf in zip(*rows, strict=True)]
    new = [name for row in zip(*(found for _, found in leaves), strict=True) for name in row]
    return [*nodes, *_chained(leaves)], new


def _names(value: Ref | None) -> list[str]:
    return [] if value is None else [value.name]


def _can_be_flat(inliner: Inliner, rows: Sequence[Sequence[str]]) -> bool:
    """Whether there are several leaves, and each row is of one dtype."""
    return len(rows[0]) > 1 and all(len({inliner.type_of(name).dtype for name in row}) == 1 for row in rows)


def _as_one(
    rows: Sequence[Sequence[str]], inliner: Inliner, like: Node, write: Callable[[list[str]], Written]
) -> Written:
    """What a function writes of flat tensors, one for each row, and its results cut into leaves."""
    kinds = [inliner.type_of(name) for name in rows[0]]
    joins = [flattened(inliner, row, like) for row in rows]
    made, new = write([name for _, name in joins])
    cuts = [cut(inliner, name, kinds, like) for name in new]
    nodes = [*_chained(joins), *made, *_chained(cuts)]
    return nodes, [name for _, found in cuts for name in found]


def _chained(written: Sequence[tuple[list[Node], Any]]) -> Iterator[Node]:
    return chain.from_iterable(nodes for nodes, _ in written)
