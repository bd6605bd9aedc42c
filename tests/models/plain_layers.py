"""Plain models: convolutions with batch normalization, long skips, recurrence, modules that are shared."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.entry import Entry, Given, reals, seeded, tokens

ROWS, WIDTH = 4, 16


class Residual(nn.Module):
    """Two convolutions with batch normalization around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.second(F.relu(self.norm1(self.first(x))))))


class ResNet(nn.Module):
    """Four residual blocks in training mode: the running statistics change with every microbatch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.blocks = nn.Sequential(*(Residual(WIDTH) for _ in range(4)))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.blocks(self.stem(x)).mean((2, 3))), y)


class UNet(nn.Module):
    """Down and up again: each half's outputs skip to the other half, over every cut between."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(3 if i == 0 else 8 * i, 8 * (i + 1), 3, padding=1) for i in range(4))
        self.up = nn.ModuleList(nn.Conv2d(16 * (i + 1), 8 * max(i, 1), 3, padding=1) for i in reversed(range(4)))
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        skips, out = [], x
        for layer in self.down:
            out = F.silu(layer(out))
            skips.append(out)
            out = F.max_pool2d(out, 2)
        for layer in self.up:
            skip = skips.pop()
            out = F.interpolate(out, size=skip.shape[2:], mode="bilinear", align_corners=False)
            out = F.silu(layer(torch.cat([out, skip], 1)))
        return F.mse_loss(self.last(out), y)


class Recurrent(nn.Module):
    """Recurrent layers one behind the other."""

    def __init__(self, kind: Callable[..., nn.Module], **options: object) -> None:
        super().__init__()
        self.embed = nn.Embedding(99, WIDTH)
        self.layers = nn.ModuleList(kind(WIDTH, WIDTH, batch_first=True, **options) for _ in range(4))
        self.head = nn.Linear(WIDTH, 99)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out = self.embed(x)
        for layer in self.layers:
            out = layer(out)[0]
        return F.cross_entropy(self.head(out).flatten(0, 1), y.flatten())


class Tree(nn.Module):
    """A module that holds others of its own kind, down to leaves."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.children_ = nn.ModuleList(Tree(depth - 1) for _ in range(2)) if depth else None

    def forward(self, x: Tensor) -> Tensor:
        out = torch.tanh(self.mix(x))
        if self.children_ is None:
            return out
        left, right = self.children_
        return out + left(out) * right(out)


class Recursive(nn.Module):
    """A tree of modules with a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.tree, self.last = Tree(2), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.tree(x)).square().mean()


class Shared(nn.Module):
    """One block that is called four times, under two names, between blocks of its own; embeddings tied to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.shared = nn.Embedding(99, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(WIDTH), self.shared) for _ in range(4))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 99, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out = self.embed(x)
        for block in self.blocks:
            out = out + torch.tanh(block(out))
        return F.cross_entropy(self.head(self.norm(out)).flatten(0, 1), y.flatten())


def _images(seed: int) -> Given:
    return (reals(seed, ROWS, 3, 16, 16), tokens(seed + 1, 1, ROWS, 10, 0)[0]), {}


def _two_images(seed: int) -> Given:
    return (reals(seed, ROWS, 3, 16, 16), reals(seed + 1, ROWS, 3, 16, 16)), {}


def _words(seed: int) -> Given:
    return (tokens(seed, ROWS, 12), tokens(seed + 1, ROWS, 12)), {}


def _vectors(seed: int) -> Given:
    return (reals(seed, ROWS, WIDTH),), {}


_FOUR = tuple(f"layers.{i}" for i in (1, 2, 3))

LAYERS = (
    Entry(
        "ResNet with BatchNorm, training",
        lambda: seeded(ResNet),
        _images,
        ("blocks.2",),
        ("blocks.1", "blocks.2", "blocks.3"),
        ("blocks.2.norm2",),
        rows=ROWS,
        why="buffers that change",
    ),
    Entry(
        "U-Net",
        lambda: seeded(UNet),
        _two_images,
        ("up.0",),
        ("down.2", "up.0", "up.2"),
        ("up.2",),
        rows=ROWS,
        why="skips over several cuts",
    ),
    Entry("LSTM", lambda: seeded(lambda: Recurrent(nn.LSTM)), _words, ("layers.2",), _FOUR, rows=ROWS),
    Entry(
        "GRU",
        lambda: seeded(lambda: Recurrent(nn.GRU)),
        _words,
        ("layers.2",),
        _FOUR,
        rows=ROWS,
    ),
    Entry(
        "recursive modules",
        lambda: seeded(Recursive),
        _vectors,
        ("tree.children_.1",),
        ("tree.children_.0.children_.1", "tree.children_.1", "tree.children_.1.children_.1"),
        ("tree.children_.1.children_.1.mix",),
        rows=ROWS,
    ),
    Entry(
        "shared block, tied embeddings",
        lambda: seeded(Shared),
        _words,
        ("blocks.2.0",),
        ("blocks.1.0", "blocks.2.0", "blocks.3.0"),
        ("norm",),
        rows=ROWS,
        why="one module under five names",
    ),
)
