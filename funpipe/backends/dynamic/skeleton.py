"""A graph's text without its integers, and the integers: graphs of batches of two sizes differ in these alone."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from funpipe._typing import TensorType


def skeleton(graph: fx.Graph, types: Sequence[TensorType]) -> tuple[str, tuple[int, ...]]:
    """What two graphs share that do the same to arguments of other sizes.

    Args:
        graph: flat tensors in, a tuple of tensors out.
        types: of its placeholders.

    Returns:
        A text in which `#` stands for each integer, and the integers in their order; first sizes and strides of the
        arguments.

    Example:
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> small, large = (make_fx(lambda x: x.view(-1, 2).sum(0))(torch.ones(n)).graph for n in (4, 6))
        >>> kinds = [TensorType((n,), (1,), torch.float32) for n in (4, 6)]
        >>> skeleton(small, [kinds[0]])[0] == skeleton(large, [kinds[1]])[0]
        True
    """
    found: list[int] = []
    number = {node: i for i, node in enumerate(graph.nodes)}

    def note(value: int) -> str:
        found.append(value)
        return "#"

    lines = [f"{t.dtype} {t.device} {[note(n) for n in (*t.shape, *t.stride)]} {len(t.shape)}" for t in types]
    for node in graph.nodes:
        args, kwargs = with_integers(node, note, lambda n: f"%{number[n]}")
        lines.append(f"{node.op} {'' if node.op == 'placeholder' else node.target} {args} {kwargs}")
    return "\n".join(lines), tuple(found)


def with_integers(
    node: fx.Node, integer: Callable[[int], Any], argument: Callable[[fx.Node], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a node with other integers and other nodes, in the order in which `skeleton` sees them.

    Args:
        node: the node.
        integer: gives what an integer becomes; flags are none.
        argument: gives what a node becomes.
    """

    def of(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return argument(value)
        if isinstance(value, list | tuple) and not isinstance(value, torch.dtype):
            return [of(v) for v in value] if isinstance(value, list) else tuple(of(v) for v in value)
        return integer(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return tuple(of(a) for a in node.args), {k: of(v) for k, v in node.kwargs.items()}
