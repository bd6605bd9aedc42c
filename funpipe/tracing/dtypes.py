"""Products of two dtypes: stand-ins let them pass, and kernels refuse them where no line of the user's is near."""

import torch
from torch import Tensor, fx

from funpipe._errors import TraceError

aten = torch.ops.aten

_PRODUCTS = (
    aten.mm.default,
    aten.bmm.default,
    aten.addmm.default,
    aten.baddbmm.default,
    aten.convolution.default,
)
"""Operators whose tensors are all of one dtype."""


def check_products(graph: fx.Graph, function: str) -> None:
    """Raises where a product is given tensors of several dtypes.

    Args:
        graph: the tracer's.
        function: what was traced is called.

    Raises:
        TraceError: the dtypes, the module and the user's line are named.

    Example:
        >>> check_products(fx.Graph(), "the loss function")
    """
    for node in graph.nodes:
        given = [n.meta["val"] for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]
        if node.target in _PRODUCTS and len({t.dtype for t in given}) > 1:
            raise TraceError(_text(function, node, given))


def _text(function: str, node: fx.Node, given: list[Tensor]) -> str:
    custom = node.meta.get("custom") or {}
    within = f" in the module {custom['path']!r}" if custom.get("path") else ""
    dtypes = " and ".join(dict.fromkeys(str(t.dtype).removeprefix("torch.") for t in given))
    return (
        f"{function} multiplies {dtypes} at {custom.get('source') or 'an unknown line'}{within}, and there is no such "
        "kernel: cast one, as in x.to(weight.dtype). Under a precision policy buffers and tensors that the function "
        "makes keep their dtype, and what they are added to takes it; or keep the weight, as in "
        f"fp.Precision(keep={{{custom.get('path') or 'head'!r}: torch.float32}})."
    )
