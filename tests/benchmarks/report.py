"""The results of a comparison as text."""

from tests.benchmarks.compare import Results
from tests.benchmarks.pairs import Spread, ratios

OURS = "funpipe"
"""How the names of what is not a peer begin."""


def fastest_of(results: Results) -> str | None:
    """The peer with the least median time, if there are peers."""
    others = {name: Spread.of(times).median for name, times in results.times.items() if not name.startswith(OURS)}
    return min(others, key=others.__getitem__) if others else None


def as_text(results: Results) -> str:
    """Each peer's step and first step, then the ratio to each, pair by pair; the fastest peer is marked."""
    ours = {name: times for name, times in results.times.items() if name.startswith(OURS)}
    others = [(name, times) for name, times in results.times.items() if name not in ours]
    fastest = fastest_of(results)
    return "\n".join(
        [
            "medians, with the 10th to the 90th percentile",
            *(_time(name, times, results.first[name]) for name, times in results.times.items()),
            *(
                f"{name:32}{t * 1e3:9.2f} ms a step: slower than its like, not timed"
                for name, t in results.tried.items()
            ),
            *(
                f"{mine} / {name:32}{ratios(own, times).as_text()}{'   <- the fastest' if name == fastest else ''}"
                for mine, own in ours.items()
                for name, times in others
            ),
        ]
    )


def _time(name: str, times: list[float], first: float) -> str:
    milliseconds = Spread.of([t * 1e3 for t in times])
    return f"{name:32}{milliseconds.as_text():>28} ms a step   {first:6.1f} s to the first loss"
