"""Models whose Python a tracer has trouble with, each for one reason. All take and return (4, 6) float32."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class _Linear(nn.Module):
    """A linear layer, and something around it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)


class Prints(_Linear):
    """Prints a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        print(h)
        return h.tanh()


class Formats(_Linear):
    """Writes the mean of a tensor to a log, which nobody reads."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        self.said = f"mean {h.mean():.3f}"
        return h.tanh()


class Numpy(_Linear):
    """Goes through numpy without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        return h * torch.from_numpy(h.detach().numpy().clip(0, 1))


class ToList(_Linear):
    """Reads a list out of what the parameters made."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        first = h[:, 0].tolist()
        return h * max(first)


class Nonzero(_Linear):
    """Works on the rows of positive sum alone, and puts them back."""

    def forward(self, x: Tensor) -> Tensor:
        rows = (self.linear(x).sum(1) > 0).nonzero().squeeze(1)
        return x.index_copy(0, rows, self.linear(x[rows]).tanh()) + self.linear(x)


class Unique(_Linear):
    """Groups rows by how large their first entry is."""

    def forward(self, x: Tensor) -> Tensor:
        kinds, inverse = torch.unique((3 * x.detach()[:, 0]).round(), return_inverse=True)
        return self.linear(x) * kinds[inverse][:, None]


class MaskedSelect(_Linear):
    """Subtracts the mean of what is positive."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        return h - torch.masked_select(h, h > 0).mean()


class CachesByShape(_Linear):
    """Keeps a mask for each shape."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        key = tuple(x.shape)
        if key not in self.masks:
            self.masks[key] = torch.ones(key).tril()
        return self.linear(x) * self.masks[key]


class TriesFirst(_Linear):
    """Catches the error of an operation that does not fit."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.linear(x.T)
        except RuntimeError:
            return self.linear(x).tanh()


class Branches(_Linear):
    """Takes a branch by what the parameters made."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        return h.tanh() if h.sum() > 0 else h.sin()


class BranchesUnlessExported(_Linear):
    """Has code of its own for export."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        if torch.compiler.is_exporting():
            return torch.where(h.sum() > 0, h.tanh(), h.sin())
        return h.tanh() if h.sum() > 0 else h.sin()


class Scripted(nn.Module):
    """Holds a scripted module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.Tanh()))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class JitTraced(nn.Module):
    """Holds a module that torch.jit traced."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.jit.trace(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), torch.ones(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class HoldsFunctions(_Linear):
    """Holds functions that are no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [torch.tanh, lambda x: 2 * x, lambda x: x.square()]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(self.linear(x))
        return x


class Samples(_Linear):
    """Asks for as many numbers as the data says."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        count = int(h.abs().sum().clamp(1, 3))
        return h * sum(range(count + 1))


class Sparse(_Linear):
    """Multiplies by a sparse matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.eye(4).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.adjacency, self.linear(x))  # type: ignore[arg-type]


class MakesSparse(_Linear):
    """Makes a sparse matrix of what it has, and uses it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm((x @ x.T).relu().to_sparse(), self.linear(x))


class Compiled(nn.Module):
    """Holds a module that is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.compile(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Hooked(_Linear):
    """Doubles what its layer returns, in a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.linear.register_forward_hook(lambda module, args, out: 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class HookedAndBranches(nn.Module):
    """Has a hook on a module that branches."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Branches()
        self.inner.register_forward_hook(lambda module, args, out: 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Conditional(_Linear):
    """Leaves a branch to torch.cond."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        return torch.cond(h.sum() > 0, torch.tanh, torch.sin, (h,))


class Counts(_Linear):
    """Counts its calls in a buffer, and branches."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        h = self.linear(x)
        return h * self.count if h.sum() > 0 else h


@dataclass
class Pair:
    """What a module returns."""

    left: Tensor
    right: dict[str, Any]


class ReturnsDataclass(nn.Module):
    """A part of it returns a dataclass with a dict, and branches."""

    class Part(_Linear):
        """The part."""

        def forward(self, x: Tensor, *, scale: float = 1.0) -> Pair:
            h = self.linear(x) * scale
            return Pair(h.tanh() if h.sum() > 0 else h.sin(), {"index": h.argmax(1), "scale": scale})

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()

    def forward(self, x: Tensor) -> Tensor:
        pair = self.part(x, scale=0.5)
        return pair.left * pair.right["scale"] + pair.right["index"][:, None]


class CalledTwice(nn.Module):
    """Calls one branching module twice, ties its weight to another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Branches()
        self.last = nn.Linear(6, 6)
        self.last.weight = self.inner.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self.inner(x)))


@dataclass(frozen=True)
class Hard:
    """A model, and how it is traced.

    Args:
        build: makes it.
        way: how `auto` traces it.
        opaque: the modules that are then called.
    """

    build: Callable[[], nn.Module]
    way: str
    opaque: tuple[str, ...] = ()


HARD = (
    Hard(Prints, "functional"),
    Hard(Formats, "export"),
    Hard(Numpy, "export"),
    Hard(ToList, "modules", ("1",)),
    Hard(Nonzero, "modules", ("1",)),
    Hard(Unique, "modules", ("1",)),
    Hard(MaskedSelect, "modules", ("1",)),
    Hard(CachesByShape, "functional"),
    Hard(TriesFirst, "functional"),
    Hard(Branches, "modules", ("1",)),
    Hard(BranchesUnlessExported, "export"),
    Hard(Scripted, "functional"),
    Hard(JitTraced, "functional"),
    Hard(HoldsFunctions, "functional"),
    Hard(Samples, "modules", ("1",)),
    Hard(MakesSparse, "functional"),
    Hard(Compiled, "functional"),
    Hard(Hooked, "functional"),
    Hard(HookedAndBranches, "modules", ("1.inner",)),
    Hard(Conditional, "modules", ("1",)),
    Hard(Counts, "modules", ("1",)),
    Hard(ReturnsDataclass, "modules", ("1.part",)),
    Hard(CalledTwice, "modules", ("1.inner",)),
)
"""Each model stands between two layers, at `1`."""


def around(model: nn.Module) -> nn.Module:
    """A model between two layers."""
    return nn.Sequential(nn.Linear(6, 6), model, nn.Linear(6, 1))
