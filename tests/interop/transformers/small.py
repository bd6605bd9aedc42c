"""Small models that look like those of the library: an output with a loss, layers in lists."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Output:
    """What the models return."""

    loss: Tensor | None
    logits: Tensor


class Layer(nn.Module):
    """A layer with a list of its own."""

    def __init__(self, width: int, experts: int = 2) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        return x + sum(expert(x).tanh() for expert in self.experts)


class Tagger(nn.Module):
    """Predicts a label for each token; labels of -100 are left out."""

    def __init__(self, layers: int = 4, width: int = 8, words: int = 11) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self.head = nn.Linear(width, words)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, use_cache: bool = True) -> Output:
        assert not use_cache
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        logits = self.head(x)
        return Output(None if labels is None else self.loss(logits, labels), logits)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def tagger(**sizes: int) -> Tagger:
    """The same each time."""
    torch.manual_seed(0)
    return Tagger(**sizes)


def batch(rows: int = 4, length: int = 6) -> dict[str, Tensor]:
    """Token ids and labels, of which the rows have ever fewer."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 11, (rows, length), generator=generator)
    labels = torch.randint(0, 11, (rows, length), generator=generator)
    for row in range(rows):
        labels[row, length - row :] = -100
    return {"input_ids": ids, "labels": labels}
