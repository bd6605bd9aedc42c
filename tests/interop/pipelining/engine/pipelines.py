"""Manual stages in one process, with the module that they are cut from, and a table that runs them."""

from types import SimpleNamespace

import torch
from torch import nn

from funpipe.interop.pipelining.engine import Engine, Options
from funpipe.schedules import Table, Task

WIDTH, CLASSES, ROWS, COUNT = 6, 3, 8, 4


def batch(rows=ROWS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, WIDTH, generator=generator), torch.randint(0, CLASSES, (rows,), generator=generator)


def layers():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU())
    return [first, nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()), nn.Linear(WIDTH, CLASSES)]


def table(num_stages, backward="B", count=COUNT):
    """All stages on one rank, microbatch after microbatch."""
    row = []
    for i in range(count):
        row += [Task("F", s, i) for s in range(num_stages)]
        row += [Task(kind, s, i) for s in reversed(range(num_stages)) for kind in backward]
    return Table.from_rows([row], placement=(0,) * num_stages, num_microbatches=count)


def stage(module, index, num_stages, **more):
    place = {"group": None, "group_size": 1, "group_rank": 0, "device": "cpu"}
    return SimpleNamespace(submod=module, stage_index=index, num_stages=num_stages, **place, **more)


def engine(modules, backward="B", wirings=None, **options):
    wirings = wirings or [None] * len(modules)
    stages = [stage(m, i, len(modules), wiring=w) for i, (m, w) in enumerate(zip(modules, wirings, strict=True))]
    loss_fn = options.pop("loss_fn", nn.functional.cross_entropy)
    return Engine(stages, table(len(modules), backward), Options(COUNT, loss_fn, **{"backend": "interpret"} | options))


def eager(modules, x, y, scale=COUNT):
    """The plain loop: fills `.grad`; the losses of the microbatches."""
    losses = []
    for rows, targets in zip(x.chunk(COUNT), y.chunk(COUNT), strict=True):
        loss = nn.functional.cross_entropy(nn.Sequential(*modules)(rows), targets)
        (loss / scale).backward()
        losses.append(loss.detach())
    return losses


def gradients(modules):
    return [p.grad for m in modules for p in m.parameters()]
