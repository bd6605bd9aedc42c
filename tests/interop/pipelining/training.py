"""A training script as users of torch.distributed.pipelining write it; only the root of its imports is a parameter."""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, CLASSES, ROWS, MICROBATCHES, STEPS = 16, 8, 16, 4, 4
CPU = torch.device("cpu")


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, width) in and out."""
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Model(nn.Module):
    """An embedding, eight blocks and classes; without an end or some blocks it is a stage."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding: nn.Module | None = nn.Embedding(CLASSES, WIDTH)
        self.blocks = nn.ModuleDict({str(number): Block() for number in range(8)})
        self.head: nn.Module | None = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Classes (rows,) to logits (rows, classes)."""
        x = x if self.embedding is None else self.embedding(x)
        for block in self.blocks.values():
            x = block(x)
        return x if self.head is None else self.head(x)


def part(index: int, count: int) -> Model:
    """A stage made by hand: what it does not have is deleted."""
    model = Model()
    low, high = (len(model.blocks) * i // count for i in (index, index + 1))
    model.blocks = nn.ModuleDict({name: b for name, b in model.blocks.items() if low <= int(name) < high})
    model.embedding = model.embedding if index == 0 else None
    model.head = model.head if index == count - 1 else None
    return model


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets."""
    x = torch.randint(0, CLASSES, (ROWS,), generator=torch.Generator().manual_seed(step))
    return x, (3 * x + 1) % CLASSES


@dataclass(frozen=True)
class Run:
    """What is trained.

    Args:
        schedule: the name of its class.
        stages_per_rank: number of stages of each rank.
        traced: whether `pipeline` cuts the model, or stages are made by hand.
        style: how stages are placed on ranks: "loop" or "v".
    """

    schedule: str
    stages_per_rank: int = 1
    traced: bool = False
    style: str = "loop"

    def indices(self, rank: int, ranks: int) -> list[int]:
        """The stages of a rank."""
        count = self.stages_per_rank * ranks
        if self.style == "v":
            return [rank, count - 1 - rank]
        return list(range(rank, count, ranks))


RUNS = {
    "GPipe": Run("ScheduleGPipe"),
    "1F1B": Run("Schedule1F1B"),
    "GPipe, traced": Run("ScheduleGPipe", traced=True),
    "1F1B, traced": Run("Schedule1F1B", traced=True),
    "interleaved": Run("ScheduleInterleaved1F1B", 2),
    "interleaved, traced": Run("ScheduleInterleaved1F1B", 2, traced=True),
    "zero bubble": Run("ScheduleInterleavedZeroBubble", 2),
    "zero bubble, traced": Run("ScheduleInterleavedZeroBubble", 2, traced=True),
    "ZBV": Run("ScheduleZBVZeroBubble", 2, style="v"),
    "DualPipeV": Run("ScheduleDualPipeV", 2, style="v"),
    "looped BFS": Run("ScheduleLoopedBFS", 2),
}


def stages_of(
    root: str, run: Run, model: nn.Module, microbatches: int = MICROBATCHES, group: dist.ProcessGroup | None = None
) -> list[Any]:
    """This rank's stages; a traced model is traced with one microbatch."""
    pipelining = importlib.import_module(root)
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    count = run.stages_per_rank * ranks
    if not run.traced:
        made = ((part(i, count), i) for i in run.indices(rank, ranks))
        return [pipelining.PipelineStage(module, i, count, CPU, group=group) for module, i in made]
    spec = {f"blocks.{8 * i // count}": pipelining.SplitPoint.BEGINNING for i in range(1, count)}
    pipe = pipelining.pipeline(model, (batch(0)[0][: ROWS // microbatches],), split_spec=spec)
    return [pipe.build_stage(i, CPU, group) for i in run.indices(rank, ranks)]


def schedule_of(root: str, run: Run, stages: list[Any], options: Mapping[str, Any], count: int = MICROBATCHES) -> Any:
    """The schedule over them, of `count` microbatches."""
    schedules = importlib.import_module(f"{root}.schedules")
    kind = getattr(schedules, run.schedule)
    single = issubclass(kind, schedules.PipelineScheduleSingle)
    return kind(stages[0] if single else stages, count, loss_fn=F.cross_entropy, **options)


def train(root: str, run: Run, options: Mapping[str, Any]) -> list[float]:
    """Trains with an optimizer of each rank's own; the losses of the steps, on the rank that has the last stage."""
    stages = stages_of(root, run, Model())
    schedule = schedule_of(root, run, stages, options)
    optimizer = torch.optim.SGD([p for s in stages for p in s.submod.parameters()], 0.1, momentum=0.9)
    means = []
    for number in range(STEPS):
        optimizer.zero_grad()
        losses = step(schedule, stages, *batch(number))
        optimizer.step()
        means += [float(torch.stack(losses).mean())] if losses else []
    return means


def step(schedule: Any, stages: list[Any], x: Tensor, y: Tensor) -> list[Tensor]:
    """A step with what this rank's stages take; the losses, none where the last stage is elsewhere."""
    losses: list[Tensor] = []
    last = any(s.is_last for s in stages)
    inputs = (x,) if any(s.is_first for s in stages) else ()
    schedule.step(*inputs, **({"target": y, "losses": losses} if last else {}))
    return losses


def train_all(roots: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str]) -> dict[str, list[list[float]]]:
    """Trains every run with every root in this process group; the losses by run, in the order of the roots."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: [train(root, RUNS[name], options) for root, options in roots] for name in names}


def unsplit(make: Callable[[], nn.Module] = Model) -> list[float]:
    """The losses of the plain loop on one device."""
    model = make()
    optimizer, found = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), []
    for number in range(STEPS):
        x, y = batch(number)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
