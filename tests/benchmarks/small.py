"""Step time of two gloo ranks against torch.distributed.pipelining, pair by pair in one run.

    python -m tests.benchmarks.small [--pairs 30] [--width 32] [--blocks 8] [--sequence 32] [--microbatches 8]

Prints the median ratio with its spread. The peer is Schedule1F1B with fused AdamW, the faster of eager and per-stage
`torch.compile`; weights, batches and losses are the same (losses are compared to 1e-4 before anything is timed).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

import funpipe as fp
from tests.benchmarks.models import Transformer, cross_entropy

Read = Callable[[], float | None]
Step = Callable[[Tensor, Tensor], Read]
"""Runs a step; what it returns reads the loss, which a training loop does now and then."""


def peer(model: Transformer, half: int, args: argparse.Namespace, compiled: bool) -> Step:
    """A step of torch.distributed.pipelining over this rank's half of a model."""
    rank = dist.get_rank()
    part = Transformer(half, args.width, args.sequence, first=rank == 0, last=rank == 1)
    part.load_state_dict(_half_of(model.state_dict(), half, rank))
    optimizer = torch.optim.AdamW(part.parameters(), 1e-3, fused=True)
    stage = PipelineStage(torch.compile(part) if compiled else part, rank, 2, torch.device("cpu"))
    schedule = Schedule1F1B(stage, args.microbatches, cross_entropy)

    def step(x: Tensor, y: Tensor) -> Read:
        losses: list[Tensor] = []
        schedule.step(x) if rank == 0 else schedule.step(target=y, losses=losses)
        optimizer.step()
        optimizer.zero_grad()
        return lambda: sum(loss.item() for loss in losses) / len(losses) if losses else None

    return step


def ours(model: Transformer, half: int, args: argparse.Namespace) -> Step:
    """A step of funpipe, the same on both ranks."""
    apply, params, _ = fp.functionalize(model)

    def loss_fn(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return cross_entropy(apply(params, {}, batch["x"])[0], batch["y"])

    step = fp.train_step(
        loss_fn,
        fp.optim.adamw(1e-3),
        mesh=fp.mesh(pp=2, device="cpu"),
        stages=fp.stages.split_at({f"blocks.{half}": "beginning"}),
        schedule="1f1b",
        num_microbatches=args.microbatches,
        backend=args.backend,
        numerics=args.numerics,
    )
    rows = torch.zeros(args.microbatches * args.rows, args.sequence, dtype=torch.long)
    state = step.init(params, {"x": rows, "y": rows})

    def run(x: Tensor, y: Tensor) -> Read:
        nonlocal state
        state, metrics = step(state, {"x": x, "y": y})
        return lambda: metrics["loss"].item()

    return run


def _half_of(saved: dict[str, Tensor], half: int, rank: int) -> dict[str, Tensor]:
    """The part of a whole model's state that a rank's half has, renamed."""
    mine = {}
    for name, value in saved.items():
        parts = name.split(".")
        if parts[0] == "blocks":
            index = int(parts[1]) - rank * half
            if 0 <= index < half:
                mine[".".join(["blocks", str(index), *parts[2:]])] = value
        elif (parts[0] in ("tokens", "positions")) == (rank == 0):
            mine[name] = value
    return mine


def timed(step: Step, x: Tensor, y: Tensor, repeats: int) -> float:
    """Milliseconds of one step, both ranks together; the loss is read after the last of `repeats`."""
    dist.barrier()
    start = time.perf_counter()
    for _ in range(repeats):
        read = step(x, y)
    read()
    dist.barrier()
    return (time.perf_counter() - start) / repeats * 1e3


def main(args: argparse.Namespace) -> None:
    """Runs on each rank."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Transformer(args.blocks, args.width, args.sequence)
    batch = torch.randint(0, 256, (args.microbatches * args.rows, args.sequence + 1))
    x, y = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
    started = time.perf_counter()
    steps = {"funpipe": ours(model, args.blocks // 2, args)}
    first = {"funpipe": steps["funpipe"](x, y)()}
    cold = {"funpipe": time.perf_counter() - started}
    for name, compiled in (("eager", False), ("compiled", True)):
        started = time.perf_counter()
        steps[name] = peer(model, args.blocks // 2, args, compiled)
        first[name] = steps[name](x, y)()
        cold[name] = time.perf_counter() - started
    later = {name: [step(x, y)() for _ in range(5)] for name, step in steps.items()}
    if dist.get_rank() == 1:
        for name in ("eager", "compiled"):
            for mine, other in zip([first["funpipe"], *later["funpipe"]], [first[name], *later[name]], strict=True):
                assert mine is not None and other is not None and abs(mine - other) <= 1e-4 * abs(other), (mine, other)
    times = {name: [] for name in steps}
    for _ in range(args.pairs):
        for name, step in steps.items():
            times[name].append(timed(step, x, y, args.repeats))
    if dist.get_rank() == 1:
        report(times, cold)


def report(times: dict[str, list[float]], cold: dict[str, float]) -> None:
    """Prints medians, and the ratio pair by pair."""
    for name, values in times.items():
        print(f"{name:9} median {statistics.median(values):8.2f} ms   first step {cold[name]:6.1f} s")
    best = min(("eager", "compiled"), key=lambda name: statistics.median(times[name]))
    ratios = sorted(a / b for a, b in zip(times["funpipe"], times[best], strict=True))
    low, middle, high = ratios[len(ratios) // 10], statistics.median(ratios), ratios[-1 - len(ratios) // 10]
    spread = f"10th to 90th percentile {low:.2f} to {high:.2f}"
    print(f"step time / {best} torch.distributed.pipelining: {middle:.2f}  ({spread})")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("pairs", 20), ("repeats", 10), ("width", 32), ("blocks", 8), ("sequence", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--rows", type=int, default=4, help="rows of a microbatch")
    parser.add_argument("--backend", default="step")
    parser.add_argument("--numerics", default="exact")
    return parser.parse_args()


if __name__ == "__main__":
    fp.launch(main, 2, parse())
