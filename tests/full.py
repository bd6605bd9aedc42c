"""Every schedule with every backend on one and two ranks: trains a tiny GPT and writes `docs/full.md`, row by row.

python -m tests.full                          everything, from the first row on
python -m tests.full --resume                 what the page does not have yet
python -m tests.full --resume zbv vmin        of these schedules alone
python -m tests.full --page PATH gpipe        to another file
"""

import argparse
import hashlib
import platform
import sys
import time
from collections.abc import Sequence
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
RANKS = 2
STEPS, BLOCKS, MICROBATCHES, ROWS, CONTEXT = 20, 2, 4, 16, 32
"""Of two blocks there are four stages, too: a cut need not be between blocks."""

Case = tuple[int, str, str, str]
"""The number of processes, the schedule, the backend, the numerics."""

CASES: tuple[Case, ...] = tuple(
    (ranks, schedule, backend, numerics)
    for ranks, schedule, (backend, numerics) in product((1, RANKS), SCHEDULES, BACKENDS)
    if numerics == "exact" or schedule in FAST
)


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


def run(schedule: str, backend: str, numerics: str, mesh: Mesh | None, steps: int = STEPS) -> Outcome:
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
    for number in range(steps):
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


def row(case: Case, outcome: Outcome, reference: list[float]) -> str:
    """A line of the table."""
    off = max(abs(a - b) / abs(b) for a, b in zip(outcome.losses, reference, strict=True))
    cells = (*case, f"{outcome.losses[-1]:.6f}", f"{off:.1e}", f"`{outcome.digest}`")
    return f"| {' | '.join(map(str, cells))} | {outcome.first:.1f} | {1e3 * outcome.step:.1f} |"


def case_of(line: str) -> Case:
    """The combination of a line of the table."""
    ranks, schedule, backend, numerics = (cell.strip() for cell in line.split("|")[1:5])
    return int(ranks), schedule, backend, numerics


def head(reference: list[float]) -> str:
    """The page above the rows; it changes with whatever makes older rows another experiment's."""
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
            "other regions. *First* is the time to the first loss, compilation included; what an earlier row has "
            "compiled is found. Times are those of a machine that did other work at the same time.",
            "",
            "| ranks | schedule | backend | numerics | last loss | off | bits | first (s) | step (ms) |",
            "|---|---|---|---|---|---|---|---|---|",
            "",
        ]
    )


def rows_of(path: Path, above: str) -> dict[Case, str]:
    """The rows that a page has; none where it is another experiment's."""
    text = path.read_text() if path.exists() else ""
    lines = text.removeprefix(above).splitlines() if text.startswith(above) else []
    return {case_of(line): line for line in lines}


def add(path: Path, above: str, line: str) -> None:
    """Writes the page with one more row."""
    rows = rows_of(path, above) | {case_of(line): line}
    path.write_text(above + "".join(f"{rows[case]}\n" for case in CASES if case in rows))


def fill(cases: Sequence[Case], path: Path, reference: list[float]) -> None:
    """Runs cases of one number of ranks, one after the other in this process, and adds their rows."""
    torch.set_num_threads(1)
    mesh = None if cases[0][0] == 1 else fp.mesh(pp=RANKS, device="cpu")
    for done, case in enumerate(cases):
        start = time.perf_counter()
        outcome = run(*case[1:], mesh)
        if mesh is None or mesh.pp_rank == 0:
            add(path, head(reference), row(case, outcome, reference))
            print(f"{done + 1} of {len(cases)}: {case}, {time.perf_counter() - start:.0f} s", flush=True)


def main(given: Sequence[str] | None = None) -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.full")
    parser.add_argument("schedules", nargs="*", help="all of them by default")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the page has")
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args(given)
    if unknown := set(asked.schedules) - set(SCHEDULES):
        parser.error(f"no schedule {', '.join(sorted(unknown))}; there are {', '.join(SCHEDULES)}")
    torch.set_num_threads(1)
    reference = eager()
    if not asked.resume:
        asked.page.write_text(head(reference))
    known = rows_of(asked.page, head(reference))
    cases = [c for c in CASES if c not in known and (not asked.schedules or c[1] in asked.schedules)]
    alone, together = ([c for c in cases if (c[0] == 1) is one] for one in (True, False))
    if alone:
        fill(alone, asked.page, reference)
    if together:
        from tests.full import fill as found_by_the_ranks  # this module may be `__main__`, which they cannot import

        fp.launch(found_by_the_ranks, RANKS, together, asked.page, reference)


if __name__ == "__main__":
    main()
