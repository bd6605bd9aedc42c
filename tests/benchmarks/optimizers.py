"""The time of an optimizer's update in a compiled step beside that of `torch.optim`, eager and compiled, in one run.

    python -m tests.benchmarks.optimizers --pairs 20
    python -m tests.benchmarks.optimizers --only Muon --width 512 --layers 12

A step here is an update and next to nothing else: the loss is a sum of products, so the gradient of a leaf is one
broadcast. Ours makes the gradients, adds them up and updates; torch's is `optimizer.step()` with gradients that are
there already. Every layer has the matrices and vectors of a transformer's block; Muon updates the matrices, AdamW the
vectors, in one step of ours and in two optimizers of torch's. After the first steps the parameters are compared.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import funpipe as fp
from tests.benchmarks.pairs import alternate, ratios

STEPS = 3
"""After which the parameters are compared."""

APART = 1e-4
"""How far they may be apart, relatively to the norm of all: torch's Muon rounds to bfloat16 inside."""

Leaves = dict[str, Tensor]
Timer = Callable[[], float]


def leaves_of(layers: int, width: int) -> Leaves:
    """The leaves of some blocks."""
    random = torch.Generator().manual_seed(0)
    shapes = {"qkv": (3 * width, width), "out": (width, width), "up": (4 * width, width), "down": (width, 4 * width)}
    matrices = {f"{i}.{n}": shape for i in range(layers) for n, shape in shapes.items()}
    vectors = {f"{i}.{n}": (width,) for i in range(layers) for n in ("norm", "bias")}
    return {n: torch.randn(shape, generator=random) for n, shape in (matrices | vectors).items()}


def loss_of(targets: Leaves) -> Callable[[Leaves, Tensor], Tensor]:
    """A loss whose gradient is a constant for each leaf, times the batch."""

    def loss(params: Leaves, x: Tensor) -> Tensor:
        return x.mean() * torch.stack([(p * targets[n]).sum() for n, p in params.items()]).sum()

    return loss


def torch_optimizers(name: str, params: Sequence[torch.nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Torch's: one, or two where one is for matrices alone."""
    if name == "Muon":
        matrices, vectors = ([p for p in params if (p.dim() == 2) is wanted] for wanted in (True, False))
        return [torch.optim.Muon(matrices, lr=1e-3), torch.optim.AdamW(vectors, lr=1e-3)]
    return [getattr(torch.optim, name)(params, lr=1e-3)]


OURS = {
    "AdamW": lambda: fp.optim.adamw(1e-3),
    "Adafactor": lambda: fp.optim.adafactor(1e-3),
    "Muon": lambda: fp.optim.muon(1e-3, rest=fp.optim.adamw(1e-3)),
    "Lion": lambda: fp.optim.lion(1e-3),
}
"""Lion is not in torch: it is timed beside AdamW, which reads and writes one slot more."""


class Ours:
    """A step of ours, and its state."""

    def __init__(self, name: str, leaves: Leaves, targets: Leaves, backend: str) -> None:
        self.step = fp.train_step(loss_of(targets), OURS[name](), backend=backend)
        self.batch = torch.ones(1)
        self.state = self.step.init(leaves, self.batch)

    def run(self) -> float:
        """The seconds of a step."""
        start = time.perf_counter()
        self.state, _ = self.step(self.state, self.batch)
        return time.perf_counter() - start

    def params(self) -> Leaves:
        """The parameters."""
        return self.step.gather(self.state)[0]


class Theirs:
    """Optimizers of torch, with gradients that are there already."""

    def __init__(self, name: str, leaves: Leaves, targets: Leaves, compiled: bool) -> None:
        self.leaves = {n: torch.nn.Parameter(leaf.clone()) for n, leaf in leaves.items()}
        for n, leaf in self.leaves.items():
            leaf.grad = targets[n].clone()
        found = torch_optimizers("AdamW" if name == "Lion" else name, list(self.leaves.values()))
        self.steps = [torch.compile(o.step) if compiled else o.step for o in found]

    def run(self) -> float:
        """The seconds of a step."""
        start = time.perf_counter()
        for step in self.steps:
            step()
        return time.perf_counter() - start

    def params(self) -> Leaves:
        """The parameters."""
        return {n: leaf.detach() for n, leaf in self.leaves.items()}


def apart(one: Leaves, other: Leaves) -> float:
    """How far parameters are apart, relatively to the norm of all."""
    squares = [((one[n] - other[n]).double().square().sum(), other[n].double().square().sum()) for n in one]
    return math.sqrt(sum(a for a, _ in squares) / sum(b for _, b in squares))


def lines(name: str, run: argparse.Namespace) -> list[str]:
    """The figures of one optimizer."""
    leaves = leaves_of(run.layers, run.width)
    targets = {n: 0.01 * leaf.roll(1, 0) for n, leaf in leaves.items()}
    ours = Ours(name, leaves, targets, run.backend)
    peers = {"eager": Theirs(name, leaves, targets, False)}
    if not run.no_compile:
        peers["compiled"] = Theirs(name, leaves, targets, True)
    for _ in range(STEPS):
        ours.run()
        for peer in peers.values():
            peer.run()
    for word, peer in peers.items():
        found = apart(ours.params(), peer.params())
        if name != "Lion" and found > APART:
            raise AssertionError(f"{name}: {found:g} apart from torch, {word}; they do not compute the same.")
    timers: dict[str, Timer] = {"ours": ours.run, **{word: peer.run for word, peer in peers.items()}}
    times = alternate(timers, run.pairs)
    beside = "AdamW" if name == "Lion" else name
    shown = [f"{name}: {1e3 * sorted(times['ours'])[len(times['ours']) // 2]:.1f} ms"]
    return shown + [f"  of torch.optim.{beside}, {w}: {ratios(times['ours'], times[w]).as_text()}" for w in peers]


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(OURS), help="one optimizer")
    parser.add_argument("--pairs", type=int, default=20, help="timings of each")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--backend", default="step")
    parser.add_argument("--no-compile", action="store_true", help="leave torch's compiled optimizers out")
    return parser.parse_args(words)


def main(run: argparse.Namespace) -> None:
    """Prints the figures."""
    for name in [run.only] if run.only else OURS:
        print("\n".join(lines(name, run)), flush=True)


if __name__ == "__main__":
    main(parse())
