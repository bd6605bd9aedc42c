"""What is measured: a model and a batch, by name."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tests.benchmarks.models import Block, Chain, Convolution, Embedding, Layer, Pooled


@dataclass(frozen=True)
class Case(ABC):
    """A model and a batch of `microbatches` times `rows` rows.

    Args:
        width: of the hidden values.
        blocks: number of equal blocks.
        rows: of one microbatch.
        microbatches: of a step.
        repeats: steps in one timing: enough to take some tenths of a second.
        dtype: of the parameters.
    """

    width: int
    blocks: int
    rows: int = 4
    microbatches: int = 8
    repeats: int = 10
    dtype: torch.dtype = torch.float32

    @property
    def tolerance(self) -> float:
        """How far losses may be apart, relatively."""
        return 1e-4 if self.dtype == torch.float32 else 2e-2

    def model(self) -> Chain:
        """The model, with the same weights every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self._chain().to(self.dtype)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, the same every time."""
        return self._batch(self.rows * self.microbatches, torch.Generator().manual_seed(1))

    @abstractmethod
    def _chain(self) -> Chain: ...

    @abstractmethod
    def _batch(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Transformer(Case):
    """A decoder over tokens.

    Args:
        sequence: tokens in a row.
        heads: of the attention.
        vocabulary: number of tokens.
    """

    sequence: int = 32
    heads: int = 4
    vocabulary: int = 256

    def _chain(self) -> Chain:
        head = nn.Sequential(nn.LayerNorm(self.width), nn.Linear(self.width, self.vocabulary))
        blocks: list[nn.Module] = [Block(self.width, self.heads) for _ in range(self.blocks)]
        return Chain(Embedding(self.vocabulary, self.width, self.sequence), blocks, head)

    def _batch(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(0, self.vocabulary, (rows, self.sequence + 1), generator=generator)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


@dataclass(frozen=True)
class Perceptron(Case):
    """Residual layers of one width, and ten classes."""

    def _chain(self) -> Chain:
        return Chain(None, [Layer(self.width) for _ in range(self.blocks)], nn.Linear(self.width, 10))

    def _batch(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(rows, self.width, generator=generator)
        return x.to(self.dtype), torch.randint(0, 10, (rows,), generator=generator)


@dataclass(frozen=True)
class Convolutional(Case):
    """Residual convolutions of one width after one that halves the image, and ten classes.

    Args:
        side: height and width of an image.
    """

    side: int = 32

    def _chain(self) -> Chain:
        first = nn.Conv2d(3, self.width, 3, stride=2, padding=1)
        return Chain(first, [Convolution(self.width) for _ in range(self.blocks)], Pooled(self.width, 10))

    def _batch(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(rows, 3, self.side, self.side, generator=generator)
        return x.to(self.dtype), torch.randint(0, 10, (rows,), generator=generator)


CASES: dict[str, Case] = {
    "small": Transformer(width=32, blocks=8),
    "medium": Transformer(width=256, blocks=8, sequence=64, repeats=1),
    "many": Transformer(width=64, blocks=12, microbatches=64, repeats=2),
    "mlp": Perceptron(width=128, blocks=24, rows=32),
    "conv": Convolutional(width=32, blocks=6, rows=8, repeats=3),
    "gpt2": Transformer(
        width=768, blocks=12, sequence=1024, heads=12, vocabulary=50257, repeats=3, dtype=torch.bfloat16
    ),
}
"""`gpt2` has the size of GPT-2 small and is meant for a GPU."""


def case_of(name: str, blocks: int | None = None, microbatches: int | None = None) -> Case:
    """A case by name, with other numbers of blocks and microbatches if given."""
    changes = {"blocks": blocks, "microbatches": microbatches}
    return replace(CASES[name], **{k: v for k, v in changes.items() if v is not None})
