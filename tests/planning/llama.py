"""A loss of the shape of Llama 3 405B (arXiv 2407.21783, table 3): all meta, any number of layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import funpipe as fp


class Attention(nn.Module):
    """Causal attention with fewer heads for keys and values than for queries, and rotary positions."""

    def __init__(self, width: int, heads: int, shared: int) -> None:
        super().__init__()
        self.size = width // heads
        self.q, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, shared * self.size, bias=False) for _ in range(2))

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(turned(q, *turn), turned(k, *turn), v, is_causal=True, enable_gqa=True)
        return self.o(mixed.transpose(1, 2).flatten(2))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: pairs of values turned by an angle that grows with the position."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Layer(nn.Module):
    """Attention and a gated feed-forward part, each after a norm."""

    def __init__(self, width: int, heads: int, shared: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, shared)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attention(self.norm1(x), turn)
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Tokens to logits."""

    def __init__(self, layers: int, width: int, heads: int, shared: int, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList([Layer(width, heads, shared, hidden) for _ in range(layers)])
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.size = width // heads

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        powers = 500000.0 ** (-torch.arange(0, self.size, 2, device=tokens.device) / self.size)
        angles = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * powers.repeat(2)
        turn = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, turn)
        return self.head(self.norm(x))


def llama(
    layers: int = 126,
    width: int = 16384,
    heads: int = 128,
    shared: int = 8,
    hidden: int = 53248,
    vocabulary: int = 128256,
    sequence: int = 8192,
):
    """The loss function, its parameters in bfloat16, and a batch of one sequence."""
    with torch.device("meta"):
        model = Llama(layers, width, heads, shared, hidden, vocabulary).bfloat16()
        batch = {name: torch.empty(1, sequence, dtype=torch.long) for name in ("x", "y")}
    apply, params, _ = fp.functionalize(model)

    def loss(params, batch):
        logits, _ = apply(params, {}, batch["x"])
        return F.cross_entropy(logits.flatten(0, 1).float(), batch["y"].flatten())

    return loss, params, batch
