"""What dropout costs in compiled code: funpipe's beside torch's own under `torch.compile`, by turns.

    python -m tests.benchmarks.dropout [--part alone step] [--pairs 20] [--repeats 5]

`alone` is the gradient of a sum of dropout, forward and backward as regions are compiled; `step` a training step of a
small GPT with dropout on the attention's weights, behind attention and behind the feed-forward. Each is timed without
dropout, too: what it costs is the difference. One thread.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import funpipe as fp
from tests.benchmarks.pairs import Spread, alternate, ratios, seconds

P = 0.1
"""The probability of a zero."""

Timers = dict[str, Callable[[], float]]


class Block(nn.Module):
    """A transformer block with dropout in the three usual places."""

    def __init__(self, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.heads, self.p = heads, p
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, sequence, width) in and out."""
        x = x + F.dropout(self.out(self._mixed(self.norms[0](x))), self.p)
        return x + F.dropout(self.down(F.gelu(self.up(self.norms[1](x)))), self.p)

    def _mixed(self, x: Tensor) -> Tensor:
        rows, sequence, width = x.shape
        q, k, v = self.qkv(x).view(rows, sequence, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        causal = torch.ones(sequence, sequence, dtype=torch.bool, device=x.device).tril()
        scores = (q @ k.transpose(-2, -1) * q.size(-1) ** -0.5).masked_fill(~causal, -torch.inf)
        weights = F.dropout(torch.softmax(scores, -1), self.p)
        return (weights @ v).transpose(1, 2).reshape(rows, sequence, width)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.dropout", description=__doc__)
    parser.add_argument("--part", choices=sorted(PARTS), nargs="+", default=sorted(PARTS))
    parser.add_argument("--pairs", type=int, default=20, help="rounds of each")
    parser.add_argument("--repeats", type=int, default=5, help="steps in a row")
    parser.add_argument("--width", type=int, default=128)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> str:
    """Measures, and says what it found."""
    given = parse(words)
    torch.set_num_threads(1)
    return "\n".join(report(part, measured(part, given)) for part in given.part)


def measured(part: str, given: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each round of a part: `ours`, `torch`, and both without dropout."""
    steps = PARTS[part](given.width)
    timers: Timers = {n: partial(seconds, step, given.repeats, lambda: None) for n, step in steps.items()}
    alternate(timers, 2)
    return alternate(timers, given.pairs)


def report(part: str, times: dict[str, list[float]]) -> str:
    """Three lines: both with and without dropout, the ratio, and the ratio of what dropout costs."""
    lines = [f"{part}: milliseconds, medians (10th to 90th percentile)"]
    for who in ("ours", "torch"):
        with_it, without = (Spread.of([t * 1e3 for t in times[n]]) for n in (who, f"{who} without"))
        lines.append(f"  {who:5}   with dropout {with_it.as_text():>26}   without {without.as_text():>26}")
    cost = ratios(_difference(times, "ours"), _difference(times, "torch"))
    whole = ratios(times["ours"], times["torch"])
    return "\n".join([*lines, f"  ours / torch   whole {whole.as_text()}   what dropout costs {cost.as_text()}"])


def _difference(times: dict[str, list[float]], who: str) -> list[float]:
    """Pair by pair; the median of what is without, which is the same work each time."""
    without = Spread.of(times[f"{who} without"]).median
    return [t - without for t in times[who]]


def _scaled(p: float, params: dict[str, Tensor], x: Tensor) -> Tensor:
    return F.dropout(x * params["w"], p, training=p > 0).square().sum()


def _alone(width: int) -> dict[str, Callable[[], Callable[[], object]]]:
    """The gradient of a sum of squares behind dropout, of as many elements as a block's widest value has."""
    shape = (8, 64, 4 * width)
    torch.manual_seed(0)
    params, x = {"w": torch.randn(shape)}, torch.randn(shape)
    steps: dict[str, Callable[[], Callable[[], object]]] = {}
    for name, p in (("", P), (" without", 0.0)):
        steps[f"ours{name}"] = _regions(partial(_scaled, p), params, x)
        steps[f"torch{name}"] = _compiled(partial(_scaled, p), params, x)
    return steps


def _regions(loss: Callable[..., Tensor], params: dict[str, Tensor], x: Tensor) -> Callable[[], Callable[[], object]]:
    """Forward and backward, each compiled as a region of a step."""
    from funpipe.backends.inductor import Source, build

    traced = fp.trace(loss, params, x)
    (stage,) = fp.stages.partition(traced, ())
    types = [tuple(r.types[n] for n in r.inputs) for r in stage.regions]
    built = build([Source(r.name, r.module, t) for r, t in zip(stage.regions, types, strict=True)])
    leaves = {"param.w": params["w"], "batch.": x, "random.0": fp.random.key(7)}

    def step() -> Callable[[], object]:
        values = dict(leaves)
        for region, code in zip(stage.regions, built, strict=True):
            values |= zip(region.outputs, code.call([values[n] for n in region.inputs]), strict=True)
        return lambda: None

    return step


def _compiled(loss: Callable[..., Tensor], params: dict[str, Tensor], x: Tensor) -> Callable[[], Callable[[], object]]:
    function = torch.compile(loss, fullgraph=True, dynamic=False)
    leaves = {n: t.clone().requires_grad_() for n, t in params.items()}

    def step() -> Callable[[], object]:
        torch.autograd.grad(function(leaves, x), list(leaves.values()))
        return lambda: None

    return step


def _gpt(p: float, width: int) -> nn.Module:
    torch.manual_seed(0)
    blocks = [Block(width, 4, p) for _ in range(4)]
    return nn.Sequential(nn.Embedding(256, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 256))


def _step(width: int) -> dict[str, Callable[[], Callable[[], object]]]:
    """Training steps of four blocks, 8 rows of 64, SGD."""
    tokens = torch.randint(0, 256, (8, 65))
    steps: dict[str, Callable[[], Callable[[], object]]] = {}
    for name, p in (("", P), (" without", 0.0)):
        steps[f"ours{name}"] = _ours(_gpt(p, width), tokens)
        steps[f"torch{name}"] = _torchs(_gpt(p, width), tokens)
    return steps


def _ours(model: nn.Module, tokens: Tensor) -> Callable[[], Callable[[], object]]:
    apply, params, buffers = fp.functionalize(model)

    def loss(params: dict[str, Tensor], batch: Tensor) -> Tensor:
        return F.cross_entropy(apply(params, buffers, batch[:, :-1])[0].flatten(0, 1), batch[:, 1:].flatten())

    train = fp.train_step(loss, fp.optim.sgd(0.01), key=0)
    state = train.init(params, tokens)

    def step() -> Callable[[], object]:
        nonlocal state
        state, metrics = train(state, tokens)
        return lambda: float(metrics["loss"])

    return step


def _torchs(model: nn.Module, tokens: Tensor) -> Callable[[], Callable[[], object]]:
    compiled, optimizer = torch.compile(model, fullgraph=True, dynamic=False), torch.optim.SGD(model.parameters(), 0.01)

    def step() -> Callable[[], object]:
        loss = F.cross_entropy(compiled(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return lambda: loss.item()

    return step


PARTS: dict[str, Callable[[int], dict[str, Callable[[], Callable[[], object]]]]] = {"alone": _alone, "step": _step}

if __name__ == "__main__":
    print(main())
