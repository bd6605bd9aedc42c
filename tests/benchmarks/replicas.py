"""What the benchmark of passes trains: layers of one width, a batch of its own on each replica, Adam."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Perceptron:
    """Equal layers with a ReLU between two, trained on the mean squared error.

    Args:
        width: of all values.
        layers: number of layers.
        rows: of a replica's batch.
        dtype: of everything.
    """

    width: int = 512
    layers: int = 24
    rows: int = 64
    dtype: torch.dtype = torch.float32

    def model(self) -> nn.Sequential:
        """The model, with the same weights every time; values keep their size through the layers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            linear = [nn.Linear(self.width, self.width) for _ in range(self.layers)]
            for layer in linear:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        parts: list[nn.Module] = [part for layer in linear for part in (layer, nn.ReLU())]
        return nn.Sequential(*parts[:-1]).to(self.dtype)

    def batch(self, replica: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a replica, the same every time."""
        random = torch.Generator().manual_seed(1 + replica)
        x, y = (torch.randn(self.rows, self.width, generator=random).to(self.dtype) for _ in range(2))
        return x, y
