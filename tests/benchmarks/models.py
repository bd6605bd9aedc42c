"""The models that the benchmarks train: plain modules, the same for every peer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Causal self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, sequence, width) in and out."""
        rows, sequence, width = x.shape
        q, k, v = (
            part.view(rows, sequence, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(rows, sequence, width))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, sequence, width) in and out."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A decoder over bytes; `first` and `last` say which ends this part of it has."""

    def __init__(
        self, blocks: int, width: int, sequence: int, heads: int = 4, first: bool = True, last: bool = True
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(256, width) if first else None
        self.positions = nn.Embedding(sequence, width) if first else None
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width) if last else None
        self.head = nn.Linear(width, 256) if last else None

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (rows, sequence) to logits (rows, sequence, 256), or hidden values where an end is missing."""
        if self.tokens is not None and self.positions is not None:
            x = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        x = self.blocks(x)
        return self.head(self.norm(x)) if self.head is not None and self.norm is not None else x


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The mean loss of logits (rows, sequence, 256) against tokens (rows, sequence)."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())
