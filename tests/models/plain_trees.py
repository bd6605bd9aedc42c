"""Plain models: dicts, dataclasses and nested values as inputs and outputs; integers and booleans between layers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.entry import Entry, Given, padded, reals, seeded, tokens

ROWS, WIDTH, LENGTH = 4, 16, 12


@dataclass
class Hidden:
    """What the layers of `Carried` hand on."""

    values: Tensor
    ids: Tensor
    mask: Tensor


class Layer(nn.Module):
    """Changes the values, and looks at the integers and booleans that come along."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Embedding(99, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Hidden) -> Hidden:
        values = torch.tanh(self.mix(hidden.values) + self.embed(hidden.ids))
        values = torch.where(hidden.mask[..., None], values, hidden.values)
        return Hidden(values, (hidden.ids * 7 + 1) % 99, hidden.mask ^ (hidden.ids % 5 == 0))


class Carried(nn.Module):
    """Integers and booleans that change from layer to layer cross every cut."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(99, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(4))
        self.head = nn.Linear(WIDTH, 99)

    def forward(self, ids: Tensor, mask: Tensor, labels: Tensor) -> dict[str, object]:
        hidden = Hidden(self.embed(ids), ids, mask.bool())
        for layer in self.layers:
            hidden = layer(hidden)
        logits = self.head(hidden.values)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "more": [logits, (hidden.ids,)]}


class Nested(nn.Module):
    """A dict of lists goes in, keywords and numbers beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, given: dict[str, list[Tensor]], *, scale: float, targets: dict[str, Tensor]) -> Tensor:
        left, right = given["pair"]
        for layer in self.layers:
            left, right = torch.tanh(layer(right)) * scale, left
        return F.mse_loss(left + right, targets["y"])


def _carried(seed: int) -> Given:
    given = {"ids": tokens(seed, ROWS, LENGTH), "mask": padded(ROWS, LENGTH), "labels": tokens(seed + 1, ROWS, LENGTH)}
    return (), given


def _nested(seed: int) -> Given:
    pair = [reals(seed, ROWS, WIDTH), reals(seed + 1, ROWS, WIDTH)]
    return ({"pair": pair},), {"scale": 0.5, "targets": {"y": reals(seed + 2, ROWS, WIDTH)}}


_FOUR = tuple(f"layers.{i}" for i in (1, 2, 3))

TREES = (
    Entry(
        "integers and booleans across cuts",
        lambda: seeded(Carried),
        _carried,
        ("layers.2",),
        _FOUR,
        ("layers.2.embed",),
        rows=ROWS,
        why="a dataclass between layers, nested outputs",
    ),
    Entry("nested inputs, a number", lambda: seeded(Nested), _nested, ("layers.2",), _FOUR, rows=ROWS),
)
