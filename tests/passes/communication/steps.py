"""Small steps, written down: `w = wait_tensor(p)` is `step.wait("w", "p")`."""

from collections.abc import Sequence
from random import Random
from typing import Any

import torch

from funpipe.functional.communication import OPERATORS, WAIT
from funpipe.graphs import Graph, Ref, simulate
from funpipe.graphs.communication import is_start
from funpipe.passes import Pass, verify
from tests.passes.random_graphs import MESH, Steps, random_inputs

aten = torch.ops.aten


class Step(Steps):
    """A graph that grows node by node, each with its name."""

    def leaf(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        """An input."""
        self.input(name, shape, dtype)

    def op(self, name: str, target: Any, *reads: str, **kwargs: Any) -> None:
        """Any operator of tensors."""
        self.add(target, *map(Ref, reads), named=name, **kwargs)

    def neg(self, name: str, x: str) -> None:
        """Light work."""
        self.op(name, aten.neg.default, x)

    def mm(self, name: str, x: str, y: str) -> None:
        """Work."""
        self.op(name, aten.mm.default, x, y)

    def reduce(self, name: str, x: str, axis: str = "dp", reduce: str = "sum") -> None:
        """The start of an all_reduce."""
        self.add(OPERATORS.all_reduce.default, Ref(x), reduce, axis, named=name)

    def gather(self, name: str, x: str, axis: str = "dp") -> None:
        """The start of an all_gather over two ranks."""
        self.add(OPERATORS.all_gather.default, Ref(x), axis, 2, named=name)

    def scatter(self, name: str, x: str, axis: str = "dp") -> None:
        """The start of a reduce_scatter over two ranks."""
        self.add(OPERATORS.reduce_scatter.default, Ref(x), "sum", axis, 2, named=name)

    def wait(self, name: str, started: str) -> None:
        """A wait."""
        self.add(WAIT, Ref(started), named=name)

    def reduced(self, suffix: str, x: str, **kwargs: Any) -> None:
        """An all_reduce and its wait, one behind the other."""
        self.reduce(f"p{suffix}", x, **kwargs)
        self.wait(f"w{suffix}", f"p{suffix}")


def names(graph: Graph) -> str:
    """The nodes in order."""
    return " ".join(node.name for node in graph.nodes)


def starts(graph: Graph) -> list[str]:
    """The starts in order, by operator."""
    return [node.target.__name__.removesuffix(".default") for node in graph.nodes if is_start(node)]


def applied(each: Pass, graph: Graph) -> Graph:
    """What a pass makes, verified, whatever was applied before."""
    made = each.fn(graph)
    verify(graph, made, each)
    return made


def require_same(before: Graph | Sequence[Graph], after: Graph | Sequence[Graph], seed: int = 0) -> None:
    """Raises unless two steps give the same bits on all ranks."""
    inputs = random_inputs(before, Random(seed))
    for old, new in zip(simulate(before, inputs, MESH), simulate(after, inputs, MESH), strict=True):
        assert list(old) == list(new)
        for name, value in old.items():
            assert (value.dtype, value.shape) == (new[name].dtype, new[name].shape), name
            assert torch.equal(value.nan_to_num(), new[name].nan_to_num()), name
