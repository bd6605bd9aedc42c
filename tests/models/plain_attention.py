"""Plain models: `nn.Transformer`, checkpoints inside a model, attention that is compiled."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.models.entry import Entry, Given, reals, seeded, tokens

ROWS, WIDTH, LENGTH = 4, 16, 12


class Translator(nn.Module):
    """`nn.Transformer` with masks, its embeddings and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(99, WIDTH)
        self.transformer = nn.Transformer(WIDTH, 4, 2, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(WIDTH, 99)

    def forward(self, source: Tensor, target: Tensor, padding: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        out = self.transformer(
            self.embed(source), self.embed(target), tgt_mask=causal, src_key_padding_mask=padding, tgt_is_causal=True
        )
        return F.cross_entropy(self.head(out).flatten(0, 1), target.flatten())


class Block(nn.Module):
    """Attention and a feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Checkpointed(nn.Module):
    """Blocks of which each computes its forward again in the backward."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.embed, self.head = nn.Embedding(99, WIDTH), nn.Linear(WIDTH, 99)
        self.blocks = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out = self.embed(x)
        for block in self.blocks:
            out = checkpoint(block, out, **self.options)
        return F.cross_entropy(self.head(out).flatten(0, 1), y.flatten())


class Encoder(nn.Module):
    """`nn.TransformerEncoder` in evaluation mode, where its fast path would be taken without gradients."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 32, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 4), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.encoder(x, src_key_padding_mask=padding)).square().mean()


def _padding(rows: int) -> Tensor:
    mask = torch.zeros(rows, LENGTH, dtype=torch.bool)
    mask[1::2, -3:] = True
    return mask


def _pairs(seed: int) -> Given:
    return (tokens(seed, ROWS, LENGTH), tokens(seed + 1, ROWS, 8)), {"padding": _padding(ROWS)}


def _words(seed: int) -> Given:
    return (tokens(seed, ROWS, LENGTH), tokens(seed + 1, ROWS, LENGTH)), {}


def _vectors(seed: int) -> Given:
    return (reals(seed, ROWS, LENGTH, WIDTH),), {"padding": _padding(ROWS)}


_FOUR = tuple(f"blocks.{i}" for i in (1, 2, 3))


def _checkpointed(name: str, **options: Any) -> Entry:
    build = partial(seeded, partial(Checkpointed, **options))
    return Entry(name, build, _words, ("blocks.2",), _FOUR, ("blocks.2.mlp",), rows=ROWS, why="computed again")


ATTENTION = (
    Entry(
        "nn.Transformer",
        lambda: seeded(Translator),
        _pairs,
        ("transformer.decoder",),
        ("transformer.encoder.layers.1", "transformer.decoder", "transformer.decoder.layers.1"),
        ("transformer.decoder.layers.1.linear1",),
        rows=ROWS,
    ),
    Entry(
        "nn.TransformerEncoder, eval",
        lambda: seeded(lambda: Encoder().eval()),
        _vectors,
        ("encoder.layers.2",),
        tuple(f"encoder.layers.{i}" for i in (1, 2, 3)),
        ("encoder.layers.2.linear1",),
        rows=ROWS,
        why="a fast path for inference",
    ),
    _checkpointed("checkpoint, not reentrant", use_reentrant=False),
    _checkpointed("checkpoint, reentrant", use_reentrant=True),
)
