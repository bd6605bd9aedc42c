"""English text that comes with every CPython: the language reference as `help()` shows it, bytes as tokens."""

from dataclasses import dataclass
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HELD_OUT = 0.1


@dataclass(frozen=True)
class Text:
    """Bytes to train on, and held-out ones.

    Args:
        train: int64 `[bytes]`.
        held_out: int64 `[bytes]`.
    """

    train: Tensor
    held_out: Tensor

    def batch(self, rows: int, context: int, seed: int, step: int) -> dict[str, Tensor]:
        """Windows of the training text from random places that depend on `seed` and `step` alone.

        Args:
            rows: number of windows.
            context: bytes of each.
            seed, step: both are needed to draw the same windows again.

        Returns:
            `{"x": int64 [rows, context], "y": the same, one byte later}`.
        """
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        starts = torch.randint(len(self.train) - context, (rows, 1), generator=generator)
        windows = self.train[starts + torch.arange(context + 1)]
        return {"x": windows[:, :-1], "y": windows[:, 1:]}


def load() -> Text:
    """The topics in the order of their names; the last tenth of all bytes is held out."""
    whole = "\n\n".join(topics[name] for name in sorted(topics)).encode()
    tokens = torch.tensor(list(whole))
    return Text(*tokens.split([len(tokens) - (held_out := int(HELD_OUT * len(tokens))), held_out]))


@torch.no_grad()
def held_out_loss(model: nn.Module, text: Text, context: int) -> float:
    """The mean loss of a model on windows side by side that cover the held-out text, in nats a byte."""
    total, count = 0.0, 0
    for part in text.held_out.unfold(0, context + 1, context).split(32):
        logits = model(part[:, :-1])
        total += F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
        count += part[:, 1:].numel()
    return total / count


def bigram_loss(text: Text) -> float:
    """What counting pairs of bytes gives on the same bytes, in nats a byte; each pair counted once more than seen."""
    counts = torch.ones(256, 256, dtype=torch.float64)
    ones = torch.ones(len(text.train) - 1, dtype=torch.float64)
    counts.index_put_((text.train[:-1], text.train[1:]), ones, accumulate=True)
    log_probability = (counts / counts.sum(1, keepdim=True)).log()
    return -log_probability[text.held_out[:-1], text.held_out[1:]].mean().item()
