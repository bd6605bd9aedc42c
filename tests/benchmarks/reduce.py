"""Sums between ranks of one host: funpipe's transport beside torch.distributed (gloo), by turns.

    python -m tests.benchmarks.reduce [--ranks 2] [--what all_reduce] [--sizes 65536 ...] [--pairs 30]

A time is from the start of a collective to the end of its wait, without anything between, on the rank that takes
longest. Every process has one thread.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist

import funpipe as fp
from funpipe.runtime import Distributed
from tests.benchmarks.pairs import Spread, alternate, ratios

SIZES = (2**16, 2**20, 2**22, 25 * 2**20, 100 * 2**20)
"""Bytes of what each rank gives."""

WARM = 3
"""Rounds that are not timed: memory is touched, buffers are made."""


@dataclass(frozen=True)
class Timed:
    """Seconds of each round, by size, ours and gloo's."""

    ours: dict[int, list[float]]
    gloo: dict[int, list[float]]

    def as_text(self, what: str, ranks: int) -> str:
        """A line for each size."""
        head = f"{what}, {ranks} ranks on {os.cpu_count()} cores; milliseconds, medians (10th to 90th percentile)"
        return "\n".join([head, *(self._line(size) for size in self.ours)])

    def _line(self, size: int) -> str:
        ours, gloo = (Spread.of([t * 1e3 for t in times[size]]) for times in (self.ours, self.gloo))
        ratio = ratios(self.gloo[size], self.ours[size])
        return (
            f"{size / 2**20:8.2f} MiB   funpipe {ours.as_text():>24}   gloo {gloo.as_text():>26}"
            f"   gloo / funpipe {ratio.as_text(1)}"
        )


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reduce", description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--what", choices=sorted(_OURS), default="all_reduce")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="bytes that each rank gives")
    parser.add_argument("--pairs", type=int, default=30, help="rounds of each")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> str:
    """Measures, and says what it found."""
    given = parse(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    timed = fp.launch(measured, given.ranks, given.what, given.sizes, given.pairs)[0]
    return timed.as_text(given.what, given.ranks)


def measured(what: str, sizes: Sequence[int], pairs: int) -> Timed:
    """What each rank runs; all give the same."""
    torch.set_num_threads(1)
    place = fp.mesh(pp=1, dp=int(os.environ["WORLD_SIZE"]), device="cpu")
    transport = Distributed(place)
    found = Timed({}, {})
    for size in sizes:
        x = torch.ones(size // 4)
        calls = {"ours": partial(_OURS[what], x, transport), "gloo": _GLOO[what](x)}
        timers = {name: partial(_seconds, call, transport) for name, call in calls.items()}
        alternate(timers, WARM)
        times = alternate(timers, pairs)
        found.ours[size], found.gloo[size] = (_slowest(times[name]) for name in ("ours", "gloo"))
    place.close()
    return found


def _seconds(call: Callable[[], object], transport: Distributed) -> float:
    transport.tell_number(0)
    transport.numbers_told()  # all are here, and no thread of gloo's barrier still runs
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _slowest(times: list[float]) -> list[float]:
    """Of each round, the time of the rank that took longest."""
    told = torch.tensor(times, dtype=torch.float64)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return told.tolist()


_OURS: dict[str, Callable[[torch.Tensor, Distributed], object]] = {
    "all_reduce": lambda x, transport: transport.all_reduce_start([x], "sum", "dp").wait(),
    "all_gather": lambda x, transport: transport.all_gather_into_start(x, "dp").wait(),
    "reduce_scatter": lambda x, transport: transport.reduce_scatter_start(x, "sum", "dp").wait(),
}


def _all_reduce(x: torch.Tensor) -> Callable[[], object]:
    """In place, as gloo has it: into memory that it always uses."""
    return lambda: _finished(dist.all_reduce(x, async_op=True))


def _all_gather(x: torch.Tensor) -> Callable[[], object]:
    parts = [torch.zeros_like(x) for _ in range(dist.get_world_size())]
    return lambda: _finished(dist.all_gather(parts, x, async_op=True))


def _reduce_scatter(x: torch.Tensor) -> Callable[[], object]:
    parts = list(x.chunk(dist.get_world_size()))
    mine = torch.zeros_like(parts[0])
    return lambda: _finished(dist.reduce_scatter(mine, parts, async_op=True))


def _finished(work: dist.Work | None) -> None:
    assert work is not None
    work.wait()


_GLOO: dict[str, Callable[[torch.Tensor], Callable[[], object]]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
}


if __name__ == "__main__":
    print(main())
