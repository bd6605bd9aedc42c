"""Models that are hard to cut, each for one reason."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funpipe.interop.pipelining import pipe_split


class Layers(nn.Module):
    """Four linear layers with `marks[i]` marks before layer `i`, and `marks[4]` behind the last."""

    def __init__(self, *marks: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.marks = (*marks, 0, 0, 0, 0, 0)[:5]

    def forward(self, x: Tensor) -> Tensor:
        for layer, marks in zip(self.layers, self.marks, strict=False):
            for _ in range(marks):
                pipe_split()
            x = layer(x).tanh()
        for _ in range(self.marks[4]):
            pipe_split()
        return x


class Skip(nn.Module):
    """Three stages; the third reads what the first makes, and a model's argument."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        h = self.a(x)
        pipe_split()
        out = self.b(h)
        pipe_split()
        out = self.c(out) + h
        return {"loss": F.mse_loss(out, target), "out": out}


class Noisy(nn.Module):
    """Everything that differs between training and evaluating, over three stages."""

    def __init__(self):
        super().__init__()
        self.bn, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)
        self.instance = nn.InstanceNorm1d(3, track_running_stats=True)
        self.lstm = nn.LSTM(4, 4, 2, dropout=0.2, batch_first=True)
        self.planes, self.alpha, self.leaky = nn.Dropout2d(0.3), nn.AlphaDropout(0.3), nn.RReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.bn(x.transpose(1, 2)).transpose(1, 2))
        x, _ = self.attention(x, x, x)
        pipe_split()
        x, _ = self.lstm(self.instance(x))
        pipe_split()
        x = self.leaky(self.alpha(self.planes(x.unsqueeze(0)).squeeze(0)))
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)


class Regions(nn.Module):
    """Dropout without gradients on the first stage, under autocast on the second."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.dropout = nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.dropout(self.a(x))
        pipe_split()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.dropout(self.b(x))


class Shared(nn.Module):
    """A layer called on all three stages, under two names; a tied weight; parameters that nothing reads."""

    def __init__(self):
        super().__init__()
        self.layer, self.first, self.idle = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(3, 3)
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.first.weight
        self.again, self.spare = self.layer, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.first(x))
        pipe_split()
        x = self.layer(x)
        pipe_split()
        return self.head(self.again(x))


class Nested(nn.Module):
    """Takes a tree and returns one."""

    def forward(self, batch: dict[str, Any], *, scale: Tensor, factor: int = 2) -> dict[str, Any]:
        x, (y, _) = batch["x"], batch["rest"]
        h = x * factor + y
        pipe_split()
        return {"sum": h * scale, "parts": [h.split(2, 1), None], "count": 3}


class Counting(nn.Module):
    """Assigns to a buffer, writes into what an earlier stage made, and makes a constant."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("hidden", torch.ones(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.hidden
        self.calls = self.calls + 1
        pipe_split()
        y.add_(1).relu_()
        pipe_split()
        return y + torch.tensor([1.0, 2.0, 3.0, 4.0])
