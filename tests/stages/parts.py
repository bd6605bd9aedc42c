"""A pipeline of parts that are traced one by one: tanh layers with a skip connection and a loss."""

import torch

from funpipe.stages import Piece, readers
from funpipe.tracing import Leaf, Part

WIRES = {(1, "x"): (0, "y"), (2, "x"): (1, "y"), (2, "s"): (0, "y")}


def layer(params, buffers, inputs):
    return {"y": torch.tanh(inputs["x"] @ params["w"])}, buffers


def last(params, buffers, inputs):
    out = inputs["x"] @ params["w"] + inputs["s"]
    return {"loss": (out - inputs["t"]).square().mean(), "out": out}, buffers


def weights():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 3, generator=generator, requires_grad=True) for _ in range(3)]


def parts(rows=2):
    w, x = Leaf.of(weights()[0]), Leaf.of(torch.ones(rows, 3))
    first = Part(layer, {"w": w}, {}, {"x": x})
    y = first.outputs()["y"]
    end = Part(last, {"w": w}, {}, {"x": y, "s": y, "t": x}, loss="loss")
    return [first, Part(layer, {"w": w}, {}, {"x": y}), end]


def pieces(split=False):
    waiting = [[n for stage, n in WIRES if stage == i] for i in range(3)]
    traced = [part.trace(readers(WIRES, i)) for i, part in enumerate(parts())]
    return [Piece.of(i, one, split=split, waiting=waiting[i]) for i, one in enumerate(traced)]


def loss_of(w, x, t):
    h = torch.tanh(x @ w[0])
    return (torch.tanh(h @ w[1]) @ w[2] + h - t).square().mean()
