"""Random models: a loss function written by a list of steps, each of which reads values made before it.

Every step takes tensors of shape (rows, TIME, WIDTH), whatever was made before (`fit`), and makes one or more values.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from funpipe.functional import Out, Weighted, cat, mean

ROWS, TIME, WIDTH, WORDS = 2, 3, 4, 5


def fit(value: Tensor) -> Tensor:
    """A value of any shape as (rows, TIME, WIDTH): flat, repeated or cut off."""
    flat = value.reshape(value.shape[0], -1)
    times = -(-TIME * WIDTH // flat.shape[1])
    return flat.repeat(1, times)[:, : TIME * WIDTH].reshape(-1, TIME, WIDTH)


@dataclass
class Run:
    """A model while it runs: the values made so far."""

    params: dict[str, Tensor]
    batch: dict[str, Tensor]
    values: list[Tensor]
    masks: list[Tensor]
    ints: list[Tensor]
    buffers: dict[str, Tensor] = field(default_factory=dict)
    calls: int = 0

    def raw(self, i: int) -> Tensor:
        return self.values[i % len(self.values)]

    def get(self, i: int) -> Tensor:
        return fit(self.raw(i))

    def matrix(self, i: int) -> Tensor:
        return self.params[f"w{i % 3}"]

    def vector(self, i: int) -> Tensor:
        return self.params[f"b{i % 3}"]


Operation = Callable[[Run, int, int, int], list[Tensor]]


def _in_place(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    x = r.get(i) * 1.5
    if k % 3 == 0:
        return [F.relu(x, inplace=True)]
    if k % 3 == 1:
        x[:, 0] = r.get(j)[:, 1]
        return [x]
    half = x[:, :, : WIDTH // 2]
    half.mul_(2).add_(1)
    return [x, half]


def _checkpoint(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    def block(x: Tensor) -> Tensor:
        return torch.tanh(torch.sin(x @ r.matrix(j)) @ r.matrix(k) + r.vector(i))

    return [checkpoint(block, r.get(i), use_reentrant=False)]


def _normalized(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    x = r.get(i).transpose(1, 2)
    return [F.batch_norm(x, None, None, r.vector(j), r.vector(k), training=True).transpose(1, 2)]


def _inner_gradient(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    return [torch.func.grad(lambda x: torch.sin(x @ r.matrix(j)).sum())(r.get(i))]


def _gradient_of_a_leaf(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    energy = torch.cos(r.get(i).detach() @ r.matrix(j)).sum()  # attention has no second derivative
    (gradient,) = torch.autograd.grad(energy, r.matrix(j), create_graph=True)
    return [r.get(k) @ torch.tanh(gradient)]


def _scattered(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    index = (r.ints[k % len(r.ints)] % TIME)[:, :, None].expand(-1, -1, WIDTH)
    return [r.get(i).scatter_add(1, index, r.get(j))]


def _mask(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    r.masks.append(r.get(i) > r.get(j))
    return []


def _where(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    return [torch.where(r.masks[k % len(r.masks)], r.get(i), r.get(j))]


def _arange(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    positions = torch.arange(TIME)
    mask = positions[:, None] >= positions[None, :] + k % 2
    scores = (r.get(i) @ r.get(j).transpose(1, 2)).masked_fill(~mask, -3.0)
    return [scores.softmax(-1)]


def _attention(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    q, key, v = (r.get(n).view(-1, TIME, 2, WIDTH // 2).transpose(1, 2) for n in (i, j, k))
    return [F.scaled_dot_product_attention(q, key, v, is_causal=k % 2 == 0).transpose(1, 2)]


def _largest(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    found = r.get(i).max(-1)
    r.ints.append(found.indices)
    return [found.values]


def _buffer(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    x, old = r.get(i), r.buffers["mean"]
    r.buffers["mean"] = (old * 0.9 + x.detach().mean((0, 1)) * 0.1).detach()
    return [x - old]


def _count(r: Run, i: int, j: int, k: int) -> list[Tensor]:
    r.buffers["count"] = r.buffers["count"] + 1
    return []


OPERATIONS: dict[str, Operation] = {
    "linear": lambda r, i, j, k: [F.linear(r.get(i), r.matrix(j), r.vector(k))],
    "product": lambda r, i, j, k: [r.get(i) @ r.matrix(j)],
    "tied": lambda r, i, j, k: [(r.get(i) @ r.params["words"].t()) @ r.params["words"]],
    "words": lambda r, i, j, k: [F.embedding(r.ints[i % len(r.ints)] % WORDS, r.params["words"])],
    "norm": lambda r, i, j, k: [F.layer_norm(r.get(i), (WIDTH,), r.vector(j), r.vector(k))],
    "relu": lambda r, i, j, k: [F.relu(r.get(i))],
    "gelu": lambda r, i, j, k: [F.gelu(r.raw(i))],
    "tanh": lambda r, i, j, k: [torch.tanh(r.raw(i))],
    "sigmoid": lambda r, i, j, k: [torch.sigmoid(r.raw(i))],
    "add": lambda r, i, j, k: [r.get(i) + r.get(j)],
    "double": lambda r, i, j, k: [r.raw(i) + r.raw(i)],
    "mul": lambda r, i, j, k: [torch.tanh(r.get(i) * r.get(j))],
    "bias": lambda r, i, j, k: [r.get(i) + r.vector(j)],
    "row": lambda r, i, j, k: [r.get(i) + r.params["row"]],
    "constant": lambda r, i, j, k: [r.get(i) * torch.ones(TIME, WIDTH).cumsum(0).to(r.get(i).dtype)],
    "outer": lambda r, i, j, k: [r.get(i) + r.params["row"] * r.vector(j)[None, None]],
    "frozen": lambda r, i, j, k: [r.get(i) * r.params["frozen"]],
    "scale": lambda r, i, j, k: [r.get(i) * r.batch["scale"]],
    "chunk": lambda r, i, j, k: list(r.get(i).chunk(2, -1)),
    "slice": lambda r, i, j, k: [r.get(i)[:, 1:, ::2]],
    "transpose": lambda r, i, j, k: [r.get(i).transpose(1, 2)],
    "reshape": lambda r, i, j, k: [r.get(i).view(-1, WIDTH, TIME)],
    "expand": lambda r, i, j, k: [r.get(i).sum(1, keepdim=True).expand(-1, TIME, -1)],
    "matmul": lambda r, i, j, k: [torch.tanh(r.get(i) @ r.get(j).transpose(1, 2))],
    "weights": lambda r, i, j, k: [torch.tanh(r.get(i) @ (r.matrix(j) @ r.matrix(k)))],
    "cat": lambda r, i, j, k: [torch.cat([r.raw(i).flatten(1), r.raw(j).flatten(1)], 1)],
    "stack": lambda r, i, j, k: [torch.stack([r.get(i), r.get(j), r.get(i)], 1)],
    "unbind": lambda r, i, j, k: list(r.get(i).unbind(1)),
    "split": lambda r, i, j, k: list(r.get(i).split([1, 3], -1)),
    "detach": lambda r, i, j, k: [r.raw(i).detach()],
    "gather": lambda r, i, j, k: [r.get(i).gather(2, r.ints[j % len(r.ints)][:, :, None] % WIDTH)],
    "clone": lambda r, i, j, k: [r.raw(i).clone()],
    "in place": _in_place,
    "checkpoint": _checkpoint,
    "normalized": _normalized,
    "inner gradient": _inner_gradient,
    "gradient of a leaf": _gradient_of_a_leaf,
    "scattered": _scattered,
    "convolution": lambda r, i, j, k: [F.conv1d(r.get(i).transpose(1, 2), r.params["kernel"], padding=1)],
    "einsum": lambda r, i, j, k: [torch.tanh(torch.einsum("btd,bsd,de->bte", r.get(i), r.get(j), r.matrix(k)))],
    "cumsum": lambda r, i, j, k: [r.get(i).cumsum(1)],
    "logsumexp": lambda r, i, j, k: [r.get(i).logsumexp(-1, keepdim=True) - r.get(j)],
    "vmap": lambda r, i, j, k: [torch.func.vmap(lambda row: torch.tanh(row @ r.matrix(j)))(r.get(i))],
    "topk": lambda r, i, j, k: [r.get(i).topk(2, -1).values],
    "mask": _mask,
    "where": _where,
    "arange": _arange,
    "attention": _attention,
    "largest": _largest,
    "buffer": _buffer,
    "count": _count,
}


@dataclass(frozen=True)
class Model:
    """A random model.

    Args:
        steps: the name of each operation, and what it reads.
        ends: the values that the loss reads.
        weighted: whether microbatches weigh differently.
    """

    steps: tuple[tuple[str, int, int, int], ...]
    ends: tuple[int, ...]
    weighted: bool = False

    def __call__(self, params: dict[str, Tensor], batch: dict[str, Tensor], *, buffers: dict[str, Tensor]) -> Out:
        first = F.linear(batch["x"], params["w0"])
        masks = [batch["mask"][:, :, None].expand(-1, TIME, WIDTH)]
        run = Run(params, batch, [first, batch["x"]], masks, [batch["ids"]], dict(buffers))
        for name, *reads in self.steps:
            run.values += OPERATIONS[name](run, *reads)
        losses = torch.stack([(run.get(e) * (1 + n)).sin().mean((1, 2)) for n, e in enumerate(self.ends)]).sum(0)
        losses = losses + run.values[0].mean((1, 2))
        aux = {"losses": cat(losses.detach()), "last": mean(run.values[-1].detach().sum())}
        if self.weighted:
            keep = batch["mask"][:, 0]
            return Out(Weighted((losses * keep).sum(), keep.sum() + 1), aux=aux, buffers=run.buffers)
        return Out(losses.mean(), aux=aux, buffers=run.buffers)


def params_of(seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Parameters, one of which is frozen and one of which no model reads."""
    g = torch.Generator().manual_seed(seed)
    shapes = {"frozen": (WIDTH,), "row": (1, 1, WIDTH), "unused": (2, 2)}
    shapes |= {"kernel": (WIDTH, WIDTH, 3), "words": (WORDS, WIDTH)}
    shapes |= {f"w{i}": (WIDTH, WIDTH) for i in range(3)} | {f"b{i}": (WIDTH,) for i in range(3)}
    leaves = {n: torch.randn(s, generator=g, dtype=dtype) for n, s in shapes.items()}
    return {n: leaf.requires_grad_(n != "frozen") for n, leaf in leaves.items()}


def batch_of(seed: int, dtype: torch.dtype, num_microbatches: int) -> dict[str, Tensor]:
    """A batch with float, integer, boolean and replicated leaves, and one that no model reads."""
    g = torch.Generator().manual_seed(seed)
    rows = ROWS * num_microbatches
    return {
        "x": torch.randn(rows, TIME, WIDTH, generator=g, dtype=dtype),
        "ids": torch.randint(0, WORDS, (rows, TIME), generator=g),
        "mask": torch.rand(rows, TIME, generator=g) < 0.5,
        "scale": torch.randn(WIDTH, generator=g, dtype=dtype),
        "unread": torch.zeros(rows, 7, dtype=torch.int32),
    }


BATCH_DIMS: dict[str, int | None] = {"x": 0, "ids": 0, "mask": 0, "scale": None, "unread": 0}


def buffers_of(dtype: torch.dtype) -> dict[str, Tensor]:
    return {"mean": torch.linspace(0, 1, WIDTH, dtype=dtype), "count": torch.tensor(3)}


reads = st.integers(0, 12)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """A model of up to 12 operations."""
    names = st.sampled_from(sorted(OPERATIONS))
    steps = draw(st.lists(st.tuples(names, reads, reads, reads), min_size=1, max_size=12))
    ends = draw(st.lists(reads, min_size=1, max_size=3))
    return Model(tuple(steps), tuple(-1 - e for e in ends), draw(st.booleans()))
