"""A backward in two parts: I, the gradients that other stages wait for, and W, those of the weights.

I has what the gradients that leave the stage are computed from; W has the rest, and reads what I leaves it. Nothing is
computed twice: what both need is computed in I and handed over as the value that owns the memory; views, and tensors
made from numbers alone, are made again where they are read. An operator that gives gradients of both kinds is in I
(layer normalization), unless its mask lets it compute one without the other (a convolution).

To split the backward is from P. Qi et al., "Zero Bubble Pipeline Parallelism" (arXiv 2401.10241, 2023).
"""

from collections.abc import Set
from dataclasses import replace

import torch
from torch import fx

from funpipe._typing import TensorType
from funpipe.stages.extract import Cut, needed
from funpipe.stages.masked import taken_apart
from funpipe.stages.partition import crossing
from funpipe.stages.saved import returned
from funpipe.stages.sources import Sources, ancestors, owner_of
from funpipe.stages.stage import Kind, Region, Stage, again
from funpipe.tracing.identifier import identifier
from funpipe.tracing.operators import base_of

aten = torch.ops.aten


def split_backward(stages: tuple[Stage, ...], read: Set[str] | None = None) -> tuple[Stage, ...]:
    """Gives each stage that has a backward the regions I and W, which together compute what B does, to the bit.

    W reads exactly what I leaves it and what B would have read. Where no other stage reads anything of a backward (the
    first stage), I is None and W does all the work; where nothing is accumulated (frozen weights), W is None.

    Args:
        stages: all stages of a partition, rematerialised or not.
        read: the values of backwards that other stages read; by default what crosses between these.

    Returns:
        The stages with I and W; those that have them already, and those without a backward, as they are.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> first, last = fp.stages.split_backward(fp.stages.partition(traced, (1,)))
        >>> first.I, first.W.inputs, last.I.outputs, last.W.outputs
        (None, ('batch.', 'mm_3'), ('mm_3', 'ones_like_of_I1'), ('mm_2',))
    """
    others = frozenset(crossing(stages) if read is None else read)
    return tuple(_split(stage, others) for stage in stages)


def _split(stage: Stage, others: frozenset[str]) -> Stage:
    if stage.B is None or stage.I is not None or stage.W is not None:
        return stage
    terms = dict.fromkeys(value for found in stage.terms.values() for _, value in found)
    return _Halves(stage, stage.B, [n for n in stage.B.outputs if n in others], list(terms)).stage()


class _Halves:
    """The work on one backward.

    Args:
        before: the stage.
        B: its backward.
        sent: the outputs that other stages read.
        terms: the outputs that are accumulated.
    """

    def __init__(self, before: Stage, B: Region, sent: list[str], terms: list[str]) -> None:
        self.before, self.B = before, B
        nodes: dict[fx.Node, fx.Node] = {}
        graph = fx.Graph()
        graph.output(graph.graph_copy(B.module.graph, nodes))
        made = {name: nodes[node] for name, node in returned(B).items()}
        self.sent = {name: made[name] for name in sent}
        self.terms = {again(name, before.index) if name in sent else name: made[name] for name in terms}
        self.ahead = ancestors(self.sent.values())
        taken_apart(graph, self.ahead)
        self.names = dict(zip(graph.find_nodes(op="placeholder"), B.inputs, strict=True))
        self.floating = Sources(graph)
        self.order = {node: i for i, node in enumerate(graph.nodes)}

    def stage(self) -> Stage:
        """The stage with both parts."""
        last = needed(self.terms.values(), self._is_in_w, self.order)
        handed = [n for n in last.outside if n not in self.names and n not in self.sent.values()]
        gives = self.sent | {f"{node.name}_of_I{self.before.index}": node for node in handed}
        first = needed(gives.values(), lambda n: n not in self.names, self.order)
        gradient_of_inputs = self._region("I", first, gives)
        self.names |= {node: name for name, node in gives.items()}
        return replace(self.before, I=gradient_of_inputs, W=self._region("W", last, self.terms))

    def _is_in_w(self, node: fx.Node) -> bool:
        if node in self.names:
            return False
        return self.floating.floats(node) or owner_of(node) not in self.ahead

    def _region(self, kind: Kind, cut: Cut, outputs: dict[str, fx.Node]) -> Region | None:
        if not outputs:
            return None
        graph, copies = fx.Graph(), {}
        for i, node in enumerate(cut.outside):
            copies[node] = graph.placeholder(identifier(f"x{i}_{self.names[node]}"))
            copies[node].meta["val"] = node.meta["val"]
        for node in cut.inside:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        made = _unshared(graph, [copies[n] for n in outputs.values()])
        graph.output(tuple(made))
        inputs = tuple(self.names[n] for n in cut.outside)
        kinds = [TensorType.of(n.meta["val"]) for n in (*cut.outside, *made)]
        types = dict(zip((*inputs, *outputs), kinds, strict=True))
        return Region(kind, self.before.index, fx.GraphModule({}, graph), inputs, tuple(outputs), types)


def _unshared(graph: fx.Graph, outputs: list[fx.Node]) -> list[fx.Node]:
    """The outputs, with a copy for each that shares memory with an input or with one before it."""
    taken = set(graph.find_nodes(op="placeholder"))
    made = []
    for node in outputs:
        made.append(_copy(graph, node) if base_of(node) in taken else node)
        taken.add(base_of(node))
    return made


def _copy(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """A copy in memory of its own: of the same strides, but dense where what is copied has gaps or overlaps."""
    made = graph.call_function(aten.clone.default, (node,))
    made.meta["val"] = node.meta["val"].clone()
    return made
