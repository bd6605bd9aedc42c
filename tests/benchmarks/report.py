"""The results of a comparison as text."""

from tests.benchmarks.compare import Results
from tests.benchmarks.pairs import Spread, ratios


def as_text(results: Results) -> str:
    """Each peer's step and first step, then the ratio to each, pair by pair; the fastest peer is marked."""
    (ours, mine), *others = results.times.items()
    fastest = min(others, key=lambda item: Spread.of(item[1]).median)[0] if others else None
    return "\n".join(
        [
            "medians, with the 10th to the 90th percentile",
            *(_time(name, times, results.first[name]) for name, times in results.times.items()),
            *(
                f"{name:32}{t * 1e3:9.2f} ms a step: slower than its like, not timed"
                for name, t in results.tried.items()
            ),
            *(
                f"{ours} / {name:32}{ratios(mine, times).as_text()}{'   <- the fastest' if name == fastest else ''}"
                for name, times in others
            ),
        ]
    )


def _time(name: str, times: list[float], first: float) -> str:
    milliseconds = Spread.of([t * 1e3 for t in times])
    return f"{name:32}{milliseconds.as_text():>28} ms a step   {first:6.1f} s to the first loss"
