"""The models that the benchmarks train: plain modules, the same for every peer, all of one form that can be cut."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Chain(nn.Module):
    """What comes first, equal blocks, what comes last; a part of a cut model lacks an end or both.

    Args:
        first: before the blocks, or None.
        blocks: one after the other.
        last: after the blocks, or None.
    """

    def __init__(self, first: nn.Module | None, blocks: list[nn.Module], last: nn.Module | None) -> None:
        super().__init__()
        self.first, self.blocks, self.last = first, nn.Sequential(*blocks), last

    def forward(self, x: Tensor) -> Tensor:
        """An input to logits of shape (..., classes), or hidden values where an end is missing."""
        x = x if self.first is None else self.first(x)
        x = self.blocks(x)
        return x if self.last is None else self.last(x)


def part_of(model: Chain, rank: int, ranks: int) -> Chain:
    """A copy of the part that a rank has where the blocks are divided evenly; weights and names of blocks from 0."""
    blocks = list(copy.deepcopy(model.blocks))
    low, high = (len(blocks) * r // ranks for r in (rank, rank + 1))
    first = copy.deepcopy(model.first) if rank == 0 else None
    last = copy.deepcopy(model.last) if rank == ranks - 1 else None
    return Chain(first, blocks[low:high], last)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The mean loss of logits (..., classes) against classes (...)."""
    return F.cross_entropy(logits.flatten(0, -2), target.flatten())


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


class Embedding(nn.Module):
    """Tokens and learned positions."""

    def __init__(self, vocabulary: int, width: int, sequence: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(sequence, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (rows, sequence) to (rows, sequence, width)."""
        return self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))


class Layer(nn.Module):
    """A residual layer of a multilayer perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, width) in and out."""
        return x + F.gelu(self.linear(x))


class Convolution(nn.Module):
    """A residual convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(4, width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, width, height, width of the image) in and out."""
        return x + self.conv(F.relu(self.norm(x)))


class Pooled(nn.Module):
    """The mean over an image, then classes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, width, height, width of the image) to (rows, classes)."""
        return self.linear(x.mean((2, 3)))
