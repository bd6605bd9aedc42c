"""Every schedule with every backend on one and two ranks: trains a tiny GPT and writes `docs/full.md`.

python -m tests.full
"""

import hashlib
import platform
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import funpipe as fp
from funpipe.runtime import Mesh
from funpipe.schedules.registry import SCHEDULES as CLASSES

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "examples"))
from gpt import GPT  # noqa: E402

PAGE = ROOT / "docs" / "full.md"
SCHEDULES = tuple({cls: name for name, cls in CLASSES.items() if cls is not fp.schedules.ForwardOnly}.values())
BACKENDS = (("interpret", "exact"), ("regions", "exact"), ("step", "exact"), ("step", "fast"))
FAST = ("gpipe", "1f1b", "zbh1")
"""The schedules that are compiled as one function, too, which takes minutes where stages are many."""
CASES = tuple((s, b) for s, b in product(SCHEDULES, BACKENDS) if b[1] == "exact" or s in FAST)
STEPS, BLOCKS, RANKS, MICROBATCHES, ROWS, CONTEXT = 20, 4, 2, 4, 16, 32


@dataclass(frozen=True)
class Outcome:
    """What a run gave: its losses, a hash of the parameters at the end, seconds to the first result and of a step."""

    losses: list[float]
    digest: str
    first: float
    step: float


def model() -> GPT:
    """The same parameters in every process."""
    torch.manual_seed(0)
    return GPT(CONTEXT, 32, BLOCKS, 4)


def batch(number: int) -> dict[str, Tensor]:
    """Bytes that repeat, so that there is something to learn."""
    start = torch.randint(0, 200, (ROWS, 1), generator=torch.Generator().manual_seed(number))
    tokens = (start + torch.arange(CONTEXT + 1) * 3) % 200
    return {"x": tokens[:, :-1].contiguous(), "y": tokens[:, 1:].contiguous()}


def cross_entropy(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The mean over all bytes."""
    return F.cross_entropy(logits.flatten(0, 1), batch["y"].flatten())


def eager() -> list[float]:
    """The losses of the plain loop on one device."""
    gpt = model()
    optimizer, losses = torch.optim.AdamW(gpt.parameters(), lr=1e-3), []
    for number in range(STEPS):
        loss = cross_entropy(gpt(batch(number)["x"]), batch(number))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def run(schedule: str, backend: str, numerics: str, mesh: Mesh | None) -> Outcome:
    """Trains with one combination."""
    apply, params, buffers = fp.functionalize(model())
    step = fp.train_step(
        lambda p, b: cross_entropy(apply(p, buffers, b["x"])[0], b),
        fp.optim.adamw(1e-3),
        mesh=mesh,
        stages=fp.schedules.get(schedule)().num_stages(RANKS),
        schedule=schedule,
        num_microbatches=MICROBATCHES,
        backend=backend,
        numerics=numerics,  # type: ignore[arg-type]
    )
    state, losses, times = step.init(params, batch(0)), [], []
    for number in range(STEPS):
        start = time.perf_counter()
        state, metrics = step(state, batch(number))
        losses.append(float(metrics["loss"]))
        times.append(time.perf_counter() - start)
    return Outcome(losses, _digest(step.gather(state)[0]), times[0], min(times))


def _digest(params: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, leaf in sorted(params.items()):
        found.update(name.encode() + leaf.contiguous().numpy().tobytes())
    return found.hexdigest()[:8]


def on_two_ranks() -> list[Outcome]:
    """All combinations, one after the other, in the processes of one launch."""
    torch.set_num_threads(1)
    mesh = fp.mesh(pp=2, device="cpu")
    return [run(schedule, *backend, mesh) for schedule, backend in CASES]


def on_one_rank() -> list[Outcome]:
    """All combinations with this process playing both ranks."""
    return [run(schedule, *backend, None) for schedule, backend in CASES]


def row(ranks: int, case: tuple[str, tuple[str, str]], outcome: Outcome, reference: list[float]) -> str:
    """A line of the table."""
    schedule, (backend, numerics) = case
    off = max(abs(a - b) / abs(b) for a, b in zip(outcome.losses, reference, strict=True))
    cells = (ranks, schedule, backend, numerics, f"{outcome.losses[-1]:.6f}", f"{off:.1e}", f"`{outcome.digest}`")
    return f"| {' | '.join(map(str, cells))} | {outcome.first:.1f} | {1e3 * outcome.step:.1f} |"


def page(rows: list[str], reference: list[float]) -> str:
    """The page of the documentation."""
    return "\n".join(
        [
            "# Every combination",
            "",
            f"Written by `python -m tests.full` with torch {torch.__version__.partition('+')[0]} on "
            f"{platform.system()} {platform.machine()}, one thread for each process. A GPT of {BLOCKS} blocks of width "
            f"32, as many stages as the schedule has on {RANKS} ranks, {MICROBATCHES} microbatches, {STEPS} steps of "
            'AdamW, every schedule with every backend, `numerics="fast"` with three; 1 rank is `mesh=None`, 2 ranks '
            "are two processes over gloo.",
            "",
            f"*Off* is the largest relative difference of a loss from the plain eager loop with `torch.optim.AdamW`, "
            f"whose last loss is {reference[-1]:.6f}. *Bits* is a hash of all parameters at the end: where it is the "
            "same, every bit is; it may differ between cuts, and where backwards are split, for then the compiler has "
            "other regions. *First* is the time to the first loss, compilation included. Times are those of a "
            "machine that did other work at the same time.",
            "",
            "| ranks | schedule | backend | numerics | last loss | off | bits | first (s) | step (ms) |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Runs everything and writes the page."""
    torch.set_num_threads(1)
    from tests.full import on_two_ranks  # by a name that the ranks can import

    reference = eager()
    outcomes = [(1, on_one_rank()), (2, fp.launch(on_two_ranks, 2)[0])]
    rows = [
        row(ranks, case, outcome, reference)
        for ranks, found in outcomes
        for case, outcome in zip(CASES, found, strict=True)
    ]
    PAGE.write_text(page(rows, reference))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
