"""From the raw graph of a tracer to a `Traced`: leaves named, identities and marks gone, parts told apart."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from funpipe._errors import TraceError
from funpipe.tracing.identifier import identifier
from funpipe.tracing.operators import IDENTITIES, is_random, is_view
from funpipe.tracing.random.draws import KEY, name_of
from funpipe.tracing.random.masks import is_of_mask
from funpipe.tracing.traced import Mark

aten = torch.ops.aten


class Assembly:
    """A clean copy of a raw graph.

    Args:
        raw: the tracer's graph; a flat list of tensors in and out.
        leaves: the kind and name of each placeholder.
        random: whether it may draw random numbers.
        what: was traced, as errors call it.
    """

    def __init__(
        self, raw: fx.Graph, leaves: list[tuple[str, str]], random: bool = False, what: str = "the loss function"
    ) -> None:
        self.random = random
        self.what = what
        self.graph = fx.Graph()
        self.forward: list[fx.Node] = []
        self.backward: list[fx.Node] = []
        self.marks: list[Mark] = []
        self.returned: list[fx.Node] = []
        self._copies: dict[fx.Node, fx.Node] = {}
        self._keys: dict[tuple[str, str], fx.Node] = {}
        self._again: dict[fx.Node, fx.Node] = {}
        self._part = self.forward
        self._leaves = iter(leaves)
        for node in raw.nodes:
            self._add(node)

    def with_output(self) -> fx.Graph:
        """The clean graph, which returns what the raw one did."""
        self.graph.output(tuple(self.returned))
        return self.graph

    def _add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._copies[node] = self._placeholder(node)
        elif node.op == "output":
            self.returned = [self._copies[n] for n in _flat(node.args[0])]
        elif node.target is KEY:
            self._copies[node] = self._key(node)
        elif node.target is torch.ops.funpipe.forward_end.default:
            self._copies[node] = self._copies[node.args[0]]  # type: ignore[index]
            self._part = self.backward
        elif node.target is torch.ops.funpipe.mark_stage_end.default:
            self._copies[node] = self._copies[node.args[0]]  # type: ignore[index]
            self._mark(str(node.args[1]))
        elif _is_identity(node):
            self._copies[node] = self._copies[node.args[0]]  # type: ignore[index]
        else:
            self._copies[node] = self._operation(node)

    def _mark(self, name: str) -> None:
        """A mark in the forward; the one that its gradient may leave in the backward is no mark."""
        if self._part is self.forward:
            self.marks.append(Mark(len(self.forward), name))

    def _placeholder(self, node: fx.Node) -> fx.Node:
        kind, name = next(self._leaves)
        copy = self.graph.placeholder(identifier(f"{kind}_{name}"))
        copy.meta = {"val": node.meta["val"], "leaf": (kind, name)}
        return copy

    def _key(self, node: fx.Node) -> fx.Node:
        """The leaf that is the key of a draw: one for each position, however often it is drawn again."""
        leaf = ("random", name_of(node.args[0]))  # type: ignore[arg-type]
        if leaf not in self._keys:
            first = next((n for n in self.graph.nodes if n.op != "placeholder"), None)
            with self.graph.inserting_before(first):
                self._keys[leaf] = self.graph.placeholder(identifier("_".join(leaf)))
            self._keys[leaf].meta = {"val": node.meta["val"], "leaf": leaf}
        return self._keys[leaf]

    def _read(self, node: fx.Node) -> fx.Node:
        """What a node reads; what is made of a mask of bytes alone, the backward makes again instead of keeping it."""
        if self._part is self.backward and is_of_mask(node):
            self._copies[node] = self._again.get(node) or self._again.setdefault(node, self._operation(node))
        return self._copies[node]

    def _operation(self, node: fx.Node) -> fx.Node:
        copy = self.graph.node_copy(node, self._read)
        custom = node.meta.get("custom") or {}
        copy.meta = {"val": node.meta.get("val"), "path": custom.get("path"), "source": custom.get("source")}
        copy.meta["params"] = tuple(dict.fromkeys(_params_read(copy)))
        if is_random(copy) and not self.random:
            raise TraceError(_random_text(copy, self.what))
        if is_random(copy) and self._part is self.backward:
            raise TraceError(_again_text(copy))
        self._part.append(copy)
        return copy


def _is_identity(node: fx.Node) -> bool:
    """Whether a node's value is that of its first argument, strides included."""
    if node.target in IDENTITIES:
        return True
    same = node.target is aten.clone.default and isinstance(node.args[0], fx.Node)
    return same and node.meta["val"].stride() == node.args[0].meta["val"].stride()  # type: ignore[union-attr]


def _params_read(node: fx.Node) -> Iterator[str]:
    """The names of the parameters that a node reads, itself or through views of them."""
    for source in node.all_input_nodes:
        if source.op == "placeholder" and source.meta["leaf"][0] == "param":
            yield source.meta["leaf"][1]
        elif source.meta.get("params") and is_view(source):
            yield from source.meta["params"]


def _flat(value: Any) -> list[fx.Node]:
    if isinstance(value, fx.Node):
        return [value]
    return [n for item in value for n in _flat(item)]


def _where(node: fx.Node) -> str:
    """The user's line, and the module that it ran in."""
    return " in ".join(str(w) for w in (node.meta["source"], node.meta["path"] or None) if w) or "an unknown line"


def _again_text(node: fx.Node) -> str:
    return (
        f"the backward draws random numbers: {node.target} at {_where(node)}. A checkpoint computes a "
        "part with random operations again, and would draw others than the forward did. Take dropout out of the "
        "checkpoint, switch it off (p=0), or leave the checkpoint away."
    )


def _why(what: str) -> str:
    if what == "the loss function":
        return "This one cannot be made a function of the step's key: take the keyword `key` and use fp.random"
    return "torch's generator is no part of its state: pass a key in the state or the batch and use fp.random"


def _random_text(node: fx.Node, what: str) -> str:
    return (
        f"{what} draws random numbers: {node.target} at {_where(node)}. {_why(what)}, such as "
        "fp.random.normal(key, shape) or fp.random.dropout(key, x, p), switch dropout off (module.eval(), or p=0), or "
        "draw the numbers outside and pass them in the batch."
    )
