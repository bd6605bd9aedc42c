"""A region's graph with its slow operators replaced.

What replaces an operator is a plain function in its terms, which is traced in its place; it returns NotImplemented
where the operator should stay. It decides by shapes, strides, dtypes and devices alone, never by a measurement: the
same region becomes the same graph, and has the same bits, in every process.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._typing import TensorType
from funpipe.backends.rewrites import attention, draws, products
from funpipe.graphs.stand_in import fake_like

DRAWS: dict[Any, Callable[..., Any]] = draws.REWRITES
"""Those that draw."""

REWRITES: dict[Any, Callable[..., Any]] = {**attention.REWRITES, **products.REWRITES, **draws.REWRITES}
"""Operators, and what to trace in their place."""


def rewritten(
    module: fx.GraphModule, types: Sequence[TensorType], table: dict[Any, Callable[..., Any]] = REWRITES
) -> fx.GraphModule:
    """Replaces operators that a library or a compiler runs faster in another form.

    Draws become the integer operations that they are made of. Attention over short sequences becomes batched matrix
    products, large matrix products in float32 on a CPU become oneDNN's. Results agree to rounding, and every value that
    leaves the graph keeps its strides. Nothing else changes: operators that write to their arguments stay, in their
    order.

    Args:
        module: a flat ATen graph, tensors in, a tuple of tensors out; it may write to its inputs. Not changed.
        types: the types of its placeholders.
        table: operators, and what to trace in their place.

    Returns:
        A new graph with placeholders and outputs in the same order; every operator's node has a fake tensor, or a
        tuple of them, in `meta["val"]`.

    Example:
        >>> class Scores(torch.nn.Module):
        ...     def forward(self, x, weight):
        ...         return (torch.ops.aten.mm.default(x, weight),)
        >>> types = [TensorType((256, 512), (512, 1), torch.float32), TensorType((512, 128), (128, 1), torch.float32)]
        >>> graph = rewritten(fx.symbolic_trace(Scores()), types).graph
        >>> [str(node.target) for node in graph.nodes if node.op == "call_function"]
        ['funpipe.mm.default']
    """
    run = fx.Interpreter(module).run
    mode = _compat.fake_mode()
    with mode, torch.no_grad():
        trace = make_fx(lambda *inputs: run(*inputs, enable_io_processing=False), decomposition_table=table)
        return trace(*[fake_like(kind, mode) for kind in types])
