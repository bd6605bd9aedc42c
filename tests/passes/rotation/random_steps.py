"""Random steps: leaves, rows of the batch, views, collectives and results, in any shape that a graph may have."""

import random

import torch

from funpipe._typing import TensorType
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Node, Ref
from tests.passes.rotation.folds import Values

SIZE = 4
KIND = TensorType((SIZE, SIZE), (SIZE, 1), torch.float64)
TURNED = TensorType((SIZE, SIZE), (1, SIZE), torch.float64)
aten = torch.ops.aten
_PAIRS = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor)


def random_step(seed: int, leaves: int = 4, nodes: int = 14) -> Graph:
    """A step over square matrices."""
    draw = random.Random(seed)
    values = [f"state.{i}" for i in range(leaves)] + ["batch.x", "batch.y"]
    inputs = dict.fromkeys(values, KIND)
    made: list[Node] = []
    for i in range(nodes):
        made += _nodes(draw, i, values)
        values.append(made[-1].name)
    own = [node.name for node in made if node.name in values and node.type is KIND]
    state = {f"state.{i}": Ref(draw.choice(values if draw.random() < 0.2 else own)) for i in range(leaves)}
    state = {name: ref if _kind(ref.name, made) is KIND else Ref(name) for name, ref in state.items()}
    return Graph(inputs, tuple(made), state | {"aux.y": Ref(draw.choice([*inputs, *own[: len(own) // 2 + 1]]))})


def _kind(name: str, made: list[Node]) -> TensorType:
    return next((node.type for node in made if node.name == name), KIND)


def _nodes(draw: random.Random, i: int, values: list[str]) -> list[Node]:
    kind = draw.choice(["pair", "pair", "pair", "tanh", "view", "sum", "sum"])
    one, other = Ref(draw.choice(values)), Ref(draw.choice(values))
    if kind == "view":
        return [Node(f"t{i}", aten.t.default, (one,), type=TURNED), _plain(f"n{i}", aten.mul.Tensor, Ref(f"t{i}"), 1.5)]
    if kind == "tanh":
        return [_plain(f"n{i}", aten.tanh.default, one)]
    if kind == "pair":
        return [_plain(f"n{i}", draw.choice(_PAIRS), one, other)]
    start = Node(f"s{i}", OPERATORS.all_reduce.default, (one, "sum", "dp"), type=KIND)
    return [start, Node(f"n{i}", OPERATORS.wait_tensor.default, (Ref(start.name),), type=KIND)]


def _plain(name: str, target: object, *args: object) -> Node:
    return Node(name, target, args, type=KIND)


def random_values(names: list[str], seed: int) -> Values:
    """A small matrix for each name: repeated products stay finite."""
    made = torch.Generator().manual_seed(seed)
    return {name: torch.randn(SIZE, SIZE, generator=made, dtype=torch.float64) / 8 for name in names}
