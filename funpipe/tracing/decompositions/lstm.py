"""The LSTM layer of oneDNN, whose backward finds what it reads.

`aten.mkldnn_rnn_layer` keeps a workspace for its backward: its size is oneDNN's own matter, the tracer's stand-in has
none of it, and where gradients are not recorded the kernel makes none. So the tracer meets a forward that keeps
nothing, and a backward that computes the layer again to get the workspace.
"""

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Layer = tuple[Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("funpipe::lstm_layer", mutates_args=())
def lstm_layer(x: Tensor, weights: list[Tensor], h: Tensor, c: Tensor, reverse: bool, kind: list[int]) -> Layer:
    """What one direction of a layer returns, and its last two states.

    Args:
        x: `[time, rows, features]`.
        weights: of the input and of the state, and their biases.
        h, c: the first state.
        reverse: whether time runs backwards.
        kind: the arguments of the kernel that are numbers: mode, features of the state, layers, biases, directions,
            whether it trains.
    """
    found = _layer(x, weights, h, c, reverse, kind)[:3]
    return found[0].contiguous(), found[1].contiguous(), found[2].contiguous()


@lstm_layer.register_fake
def _(x: Tensor, weights: list[Tensor], h: Tensor, c: Tensor, reverse: bool, kind: list[int]) -> Layer:
    return x.new_empty((*x.shape[:2], kind[1])), h.new_empty(h.shape), c.new_empty(c.shape)


@torch.library.custom_op("funpipe::lstm_layer_backward", mutates_args=())
def lstm_layer_backward(
    x: Tensor, weights: list[Tensor], h: Tensor, c: Tensor, gradients: list[Tensor], reverse: bool, kind: list[int]
) -> Gradients:
    """The gradients of x, the four weights and the two states, from those of what the layer returned."""
    with torch.enable_grad():  # else the kernel keeps no workspace
        out, last_h, last_c, workspace = _layer(x, weights, h, c, reverse, kind)
    given = (x, *weights, h, c, out, last_h, last_c, *gradients)
    mode, hidden, layers, biases, directions, _ = kind
    rest = (reverse, mode, hidden, layers, bool(biases), True, directions == 2, [], False, workspace)
    found = aten.mkldnn_rnn_layer_backward.default(*given, *rest)
    # Two of them are one tensor, which an operator may not return.
    return tuple(t.clone(memory_format=torch.contiguous_format) for t in found)  # type: ignore[return-value]


@lstm_layer_backward.register_fake
def _(
    x: Tensor, weights: list[Tensor], h: Tensor, c: Tensor, gradients: list[Tensor], reverse: bool, kind: list[int]
) -> Gradients:
    return tuple(t.new_empty(t.shape) for t in (x, *weights, h, c))  # type: ignore[return-value]


_LSTM = 2
"""The mode of the kernel, as torch numbers it."""


def _layer(x: Tensor, weights: list[Tensor], h: Tensor, c: Tensor, reverse: bool, kind: list[int]) -> Any:
    mode, hidden, layers, biases, directions, trains = kind
    rest = (mode, hidden, layers, bool(biases), directions == 2, False, bool(trains))
    return aten.mkldnn_rnn_layer.default(x, *weights, h, c, reverse, [], *rest)


def _forward(x: Tensor, w0: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, h: Tensor, c: Tensor, *rest: Any) -> Any:
    reverse, sizes, mode, hidden, layers, biases, both, _, trains = rest
    if sizes or mode != _LSTM:
        return NotImplemented  # packed sequences stay as they are
    kind = [mode, hidden, layers, int(biases), 1 + both, int(trains)]
    return *lstm_layer(x, [w0, w1, w2, w3], h, c, reverse, kind), x.new_empty((0,), dtype=torch.uint8)


def _backward(x: Tensor, w0: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, h: Tensor, c: Tensor, *rest: Any) -> Any:
    *returned, grad, grad_h, grad_c, reverse, mode, hidden, layers, biases, _, both, sizes, _, _ = rest
    if sizes or mode != _LSTM:
        return NotImplemented
    pairs = zip((grad, grad_h, grad_c), returned, strict=True)
    gradients = [torch.zeros_like(t) if g is None else g for g, t in pairs]
    kind = [mode, hidden, layers, int(biases), 1 + both, 1]
    return lstm_layer_backward(x, [w0, w1, w2, w3], h, c, gradients, reverse, kind)


DECOMPOSITIONS = (
    {aten.mkldnn_rnn_layer.default: _forward, aten.mkldnn_rnn_layer_backward.default: _backward}
    if hasattr(aten, "mkldnn_rnn_layer_backward")
    else {}
)
"""For the tracer: operators, and what to trace in their place."""
