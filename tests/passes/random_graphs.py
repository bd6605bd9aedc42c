"""Random steps with collectives of mixed dtypes over all axes, in any valid order; random pipelines of two ranks."""

from collections.abc import Sequence
from random import Random
from typing import Any

import torch

from funpipe import _compat
from funpipe._typing import MeshShape, TensorType
from funpipe.functional.communication import OPERATORS, WAIT
from funpipe.graphs import Graph, Node, Ref
from funpipe.graphs.from_fx import type_of
from funpipe.graphs.node import map_refs
from funpipe.graphs.order import by_data_flow

aten = torch.ops.aten

MESH = MeshShape(pp=2, dp=2)
"""The mesh of every random step: two ranks on each axis."""

DTYPES = (torch.float32, torch.float64, torch.int64, torch.bfloat16)
SHAPES = ((4,), (2, 6), (4, 3), ())


class Steps:
    """A graph that grows node by node; types are those that the operators' fake forms give.

    Args:
        random: draws whatever is drawn.
    """

    def __init__(self, random: Random | None = None) -> None:
        self.random, self.mode = random or Random(0), _compat.fake_mode()
        self.inputs: dict[str, TensorType] = {}
        self.nodes: list[Node] = []
        self.fakes: dict[str, Any] = {}
        self.readable: list[str] = []

    def input(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> str:
        """Adds an input."""
        with self.mode:
            self.fakes[name] = torch.empty(shape, dtype=dtype)
        self.inputs[name] = type_of(self.fakes[name])
        self.readable.append(name)
        return name

    def add(self, target: Any, *args: Any, named: str = "", readable: bool = True, **kwargs: Any) -> str:
        """Adds a node."""
        name = named or f"{target.__name__.split('.')[0]}_{len(self.nodes)}"
        with self.mode:
            given = map_refs(lambda ref: self.fakes[ref.name], args)
            self.fakes[name] = target(*given, **kwargs)
        self.nodes.append(Node(name, target, args, kwargs, type=type_of(self.fakes[name])))
        if readable:
            self.readable.append(name)
        return name

    def compute(self) -> str:
        """A node that computes something from values that are there."""
        x = self.random.choice(self.readable)
        kind, alike = type_of(self.fakes[x]), [n for n in self.readable if _alike(self.fakes[n], self.fakes[x])]
        choices = [(aten.neg.default, Ref(x)), (aten.add.Tensor, Ref(x), Ref(self.random.choice(alike)))]
        choices.append((aten.mul.Tensor, Ref(x), 3))
        if len(kind.shape) == 2:
            choices.append((aten.t.default, Ref(x)))
        return self.add(*self.random.choice(choices))

    def start(self, axes: Sequence[str] = ("dp", "pp", "world")) -> list[str]:
        """Starts a random collective; returns what is to be waited for."""
        x, axis = self.random.choice(self.readable), self.random.choice(axes)
        reduce = self.random.choice(["sum", "sum", "sum", "max"])
        rows = self.fakes[x].shape[0] if self.fakes[x].ndim else 0
        size = {"dp": MESH.dp, "pp": MESH.pp, "world": MESH.dp * MESH.pp}[axis]
        kind = self.random.random()
        if kind < 0.15 and rows:
            return [self.add(OPERATORS.all_gather.default, Ref(x), axis, size, readable=False)]
        if kind < 0.3 and rows and rows % size == 0:
            return [self.add(OPERATORS.reduce_scatter.default, Ref(x), reduce, axis, size, readable=False)]
        return [self.add(OPERATORS.all_reduce.default, Ref(x), reduce, axis, readable=False)]

    def wait(self, started: str) -> str:
        """Waits."""
        return self.add(WAIT, Ref(started))

    def graph(self, outputs: Sequence[str]) -> Graph:
        """What has grown."""
        return Graph(self.inputs, tuple(self.nodes), {f"aux.{name}": Ref(name) for name in outputs})


def random_graph(random: Random, size: int = 40) -> Graph:
    """A step that all four ranks run, with common and dead collectives, in a random valid order.

    Args:
        random: draws everything.
        size: about how many nodes.
    """
    steps, flying = Steps(random), []
    for i in range(6):
        steps.input(f"state.{i}", random.choice(SHAPES), random.choice(DTYPES))
    while len(steps.nodes) < size:
        action = random.random()
        if action < 0.35:
            flying += steps.start()
        elif action < 0.4 and steps.nodes:
            flying += _again(steps)
        elif action < 0.7 and flying:
            steps.wait(flying.pop(random.randrange(len(flying))))
        else:
            steps.compute()
    for started in flying[2:]:
        steps.wait(started)
    outputs = [name for name in steps.readable if random.random() < 0.6 and name not in steps.inputs]
    # Of the two starts that nobody waits for one is for a later step, and one is dead.
    graph = steps.graph([*outputs, *flying[:1]])
    named = {name.replace("aux.", random.choice(["aux.", "state."])): ref for name, ref in graph.outputs.items()}
    return shuffled(graph.replace(outputs=named), random)


def _again(steps: Steps) -> list[str]:
    """A collective that was started before, started once more."""
    node = steps.random.choice(steps.nodes)
    return [steps.add(node.target, *node.args, readable=False)] if node.target in _STARTS else []


_STARTS = (OPERATORS.all_reduce.default, OPERATORS.all_gather.default, OPERATORS.reduce_scatter.default)


def shuffled(graph: Graph, random: Random) -> Graph:
    """A graph in a random order that its data flow allows.

    Args:
        graph: the graph, in which values may be read in any order.
        random: draws the order.
    """
    before = {node.name: {name for name in node.reads if name in graph.by_name} for node in graph.nodes}
    keys = {node.name: random.random() for node in graph.nodes}
    return graph.replace(nodes=tuple(by_data_flow(graph.nodes, before, lambda node, at: keys[node.name])))


def random_pipeline(random: Random, size: int = 40) -> tuple[Graph, Graph]:
    """The graphs of the first and the last rank of a pipeline of two, which run without a deadlock.

    Args:
        random: draws everything.
        size: how many things happen.

    Returns:
        Both graphs; replicas run the same.
    """
    ranks = (Steps(random), Steps(random))
    later: list[tuple[Steps, tuple[Any, ...]]] = []
    for steps in ranks:
        for i in range(3):
            steps.input(f"state.{i}", (4,), random.choice(DTYPES[:2]))
    for number in range(size):
        action, steps = random.random(), random.choice(ranks)
        if action < 0.25:
            later.append(_message(ranks, number))
        elif action < 0.45:
            later += [(steps, (WAIT, Ref(name))) for name in steps.start(["dp"])]
        elif action < 0.55:
            axis = random.choice(["pp", "world"])
            later += [(each, (WAIT, Ref(_total(each, axis)))) for each in ranks]
        elif action < 0.8 and later:
            of, call = later.pop(random.randrange(len(later)))
            of.add(*call, readable=call[0] is WAIT)
        else:
            steps.compute()
    for of, call in later:
        of.add(*call, readable=call[0] is WAIT)
    first, last = (steps.graph([n for n in steps.readable if n not in steps.inputs]) for steps in ranks)
    return first, last


def _message(ranks: tuple[Steps, Steps], number: int) -> tuple[Steps, tuple[Any, ...]]:
    """A message between the two, received at once; what is left is to wait for the sent one."""
    source, target = ranks if ranks[0].random.random() < 0.5 else ranks[::-1]
    x = source.random.choice(source.readable)
    kind = type_of(source.fakes[x])
    target.add(OPERATORS.post_recv.default, number, readable=False)
    source.add(OPERATORS.send.default, Ref(x), number, readable=False)
    args = (number, list(kind.shape), list(kind.stride), kind.dtype, torch.device(kind.device))
    target.add(OPERATORS.wait_recv.default, *args)
    return source, (OPERATORS.wait_send.default, Ref(x), number)


def _total(steps: Steps, axis: str) -> str:
    """A collective that both ranks of the pipeline take part in, of values of one type."""
    x = next(name for name in reversed(steps.readable) if steps.fakes[name].shape == (4,))
    wide = steps.add(aten._to_copy.default, Ref(x), dtype=torch.float64)
    return steps.add(OPERATORS.all_reduce.default, Ref(wide), "sum", axis, readable=False)


def random_inputs(graphs: Graph | Sequence[Graph], random: Random) -> list[dict[str, torch.Tensor]]:
    """Different inputs for each of the four ranks.

    Args:
        graphs: one for all, or one for each rank.
        random: draws the numbers.
    """
    count = MESH.pp * MESH.dp
    each = [graphs] * count if isinstance(graphs, Graph) else list(graphs)
    return [{name: _numbers(kind, random) for name, kind in graph.inputs.items()} for graph in each]


def _numbers(kind: TensorType, random: Random) -> torch.Tensor:
    generator = torch.Generator().manual_seed(random.randrange(2**32))
    return torch.randn(kind.shape, generator=generator).mul(9).to(kind.dtype)


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype)
