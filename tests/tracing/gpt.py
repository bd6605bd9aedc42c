"""A tiny GPT as plain modules, and its loss function."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from funpipe.functional import functionalize

WORDS, WIDTH, TIME, HEADS = 11, 8, 6, 2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """A decoder with `blocks` blocks whose head is tied to its embedding."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(WORDS, WIDTH), nn.Embedding(TIME, WIDTH)
        self.layers = nn.ModuleList([Block() for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.positions(torch.arange(words.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def gpt(blocks: int = 2, dtype: torch.dtype = torch.float32):
    """A loss function, its parameters, and a batch of four sequences."""
    torch.manual_seed(0)
    apply, params, _ = functionalize(GPT(blocks).to(dtype))

    def loss(params, batch):
        logits, _ = apply(params, {}, batch["x"])
        return F.cross_entropy(logits.flatten(0, 1), batch["y"].flatten())

    words = torch.randint(0, WORDS, (4, TIME + 1))
    return loss, params, {"x": words[:, :-1].contiguous(), "y": words[:, 1:].contiguous()}
