"""Random graphs of equal layers, with all that a graph of ATen operators may contain, for laws about cutting them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._typing import TensorType

SIZE = 4


@dataclass
class Layer:
    """What the operations of one layer read and change.

    Args:
        first: the graph's first input.
        weight: the layer's own.
        accumulator: the layer's own, written to in place.
        saved: what the graph returns.
    """

    first: Tensor
    weight: Tensor
    accumulator: Tensor
    saved: list[Tensor]


def _save(x: Tensor, layer: Layer) -> Tensor:
    kept = x * 3
    layer.saved.append(kept)
    return kept


def _save_view(x: Tensor, layer: Layer) -> Tensor:
    kept = x * 5
    layer.saved.append(kept.t())
    return kept


def _save_constant(x: Tensor, layer: Layer) -> Tensor:
    layer.saved.append(torch.arange(3.0))
    return x


def _save_view_of_constant(x: Tensor, layer: Layer) -> Tensor:
    layer.saved.append(torch.ones(1).expand(SIZE))
    return x


def _add_in_place(x: Tensor, layer: Layer) -> Tensor:
    layer.accumulator.add_(x)
    return x


def _largest(x: Tensor, layer: Layer) -> Tensor:
    values, indices = x.max(1, keepdim=True)
    return x - values + indices


def _halves(x: Tensor, layer: Layer) -> Tensor:
    upper, lower = x.split(SIZE // 2)
    return torch.cat([lower, upper * 2])


OPERATIONS = {
    "product": lambda x, layer: torch.tanh(x @ layer.weight),
    "transpose": lambda x, layer: x.t(),
    "columns": lambda x, layer: x.t()[1:3].reshape(-1)[:SIZE] + x,
    "sine": lambda x, layer: torch.sin(x),
    "constant": lambda x, layer: x + torch.arange(float(SIZE)),
    "full": lambda x, layer: torch.where(x > torch.full((), 0.5), x, torch.zeros(SIZE, 1)),
    "norm": lambda x, layer: F.layer_norm(x, (SIZE,)),
    "skip": lambda x, layer: x + layer.first,
    "largest": _largest,
    "halves": _halves,
    "add in place": _add_in_place,
    "save": _save,
    "save a view": _save_view,
    "save a constant": _save_constant,
    "save a view of a constant": _save_view_of_constant,
}


def graph_of(operations: list[str], depth: int) -> tuple[fx.GraphModule, list[Tensor]]:
    """A graph of equal layers.

    Args:
        operations: of a layer, in order.
        depth: the number of layers.

    Returns:
        The graph, as regions are (outputs share memory neither with inputs nor with each other), and inputs for it.
    """

    def run(x: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        first, saved = x, []
        for i in range(depth):
            layer = Layer(first, leaves[i], leaves[depth + i], saved)
            for operation in operations:
                x = OPERATIONS[operation](x, layer)
        return (*saved, x + 1)

    g = torch.Generator().manual_seed(len(operations))
    inputs = [torch.randn(SIZE, SIZE, generator=g) for _ in range(2 * depth + 1)]
    module = make_fx(run, tracing_mode="fake")(*inputs)
    module.graph.eliminate_dead_code()
    return module, inputs


def types_of(inputs: list[Tensor]) -> list[TensorType]:
    """The types of a graph's inputs."""
    return [TensorType.of(t) for t in inputs]


layers_of_operations = st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=7).map(
    lambda drawn: [*drawn, "product"] if "product" not in drawn else drawn
)
"""The operations of a layer; a product among them, or nothing is cut."""
