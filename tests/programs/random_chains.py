"""Random chains: stages with skips, of operations that share memory, change types and strides, or read buffers."""

import random

import torch
from torch import Tensor

from tests.programs.chains import SIZE, Chain, Link, Named, numbers


def _complex(x: Tensor, y: Tensor) -> Tensor:
    return torch.view_as_real(torch.complex(x, y).conj() * torch.complex(y, x)).sum(-1)


def _in_place(x: Tensor, y: Tensor) -> Tensor:
    made = x.clone()
    made.mul_(2).add_(y)
    made[0] = y[1]
    return made


OPERATIONS = (
    lambda x, y: torch.tanh(x @ y),
    lambda x, y: torch.tanh(y.t() @ x),
    lambda x, y: x + y,
    lambda x, y: x * torch.sigmoid(y),
    lambda x, y: x.t(),
    lambda x, y: x.float().tanh().double(),
    lambda x, y: torch.cat([x, y])[::2],
    lambda x, y: x.detach() * y,
    lambda x, y: x[torch.arange(SIZE).flip(0)],
    lambda x, y: torch.layer_norm(x, (SIZE,), y[0], y[1]),
    lambda x, y: x * torch.ones_like(x).tril(),
    lambda x, y: torch.cat([*x.chunk(2)][::-1]),
    lambda x, y: x.sort(dim=0).values,
    lambda x, y: x[:1].expand(SIZE, SIZE),
    lambda x, y: torch.where(x > 0, x, y),
    _complex,
    _in_place,
)
ENDS = (lambda t: t, lambda t: t, lambda t: t, Tensor.t, lambda t: t[1], lambda t: t > 0, lambda t: (3 * t).long())
WIRED = 4
"""So many of the first ends keep the shape, and may be read by a later stage."""


def random_chain(seed: int) -> Chain:
    rng = random.Random(seed)
    links: list[Link] = []
    there: list[tuple[int, str]] = []
    for stage in range(count := rng.choice([1, 2, 3, 4])):
        read = rng.choices(there, k=rng.choice([1, 1, 2, 3])) if there else []
        inputs = {f"in{i}": source for i, source in enumerate(read)}
        inputs |= {"x": None} if not read or rng.random() < 0.3 else {}
        made, kept = _link(rng, inputs, stage + 1 == count)
        links.append(made)
        there += [(stage, name) for name in kept]
    return Chain(links)


def _link(rng: random.Random, inputs: dict[str, tuple[int, str] | None], last: bool) -> tuple[Link, list[str]]:
    trained = [rng.random() < 0.85 for _ in range(rng.choice([0, 1, 2, 3]))] or ([True] if last else [])
    params = {f"w{i}": numbers(rng.randrange(99)).requires_grad_(wanted) for i, wanted in enumerate(trained)}
    buffers = {"b": numbers(rng.randrange(99))} if rng.random() < 0.3 else {}
    names = [*inputs, *params]
    lines = []
    for i in range(rng.choice([0, 1, 3, 6])):
        lines.append((rng.choice(OPERATIONS), rng.choice(names), rng.choice(names), f"v{i}"))
        names.append(f"v{i}")
    ends = {f"o{i}": (rng.randrange(len(ENDS)), rng.choice(names[-4:])) for i in range(rng.choice([1, 2, 3]))}
    ends["o"] = (0, names[-1])  # something to read

    def function(params: Named, buffers: Named, given: Named) -> tuple[Named, Named]:
        values = {**params, **given}
        for operation, x, y, name in lines:
            values[name] = operation(values[x], values[y])
        if buffers:
            values[ends["o"][1]] = values[ends["o"][1]] * buffers["b"]
            buffers = {"b": 0.9 * buffers["b"] + values[ends["o"][1]].detach()}
        outputs = {n: ENDS[kind](values[name]) for n, (kind, name) in ends.items()}
        if last:
            read = [t for t in (*outputs.values(), *given.values(), *params.values()) if t.dtype == torch.float64]
            outputs["loss"] = torch.stack([t.square().mean() for t in read]).sum()
        return outputs, buffers

    kept = [n for n, (kind, _) in ends.items() if kind < WIRED]
    return Link(function, inputs, params, buffers, wants_gradient=rng.random() < 0.4), kept
