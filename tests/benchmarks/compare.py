"""A comparison: every peer takes its first step, losses are compared, then all are timed by turns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.benchmarks.pairs import alternate, seconds
from tests.benchmarks.steps import Peer, Step

LOSSES = 6
"""Steps whose losses are compared before anything is timed."""


@dataclass(frozen=True)
class Results:
    """What was measured, by the peers' names; the first is what the others are compared with.

    Args:
        first: seconds from building the step to its first loss.
        tried: seconds of a step of the peers that were slower than another of their group.
        times: seconds of a step, pair by pair, of all others.
    """

    first: dict[str, float]
    tried: dict[str, float]
    times: dict[str, list[float]]


def compare(
    peers: Sequence[Peer], pairs: int, repeats: int, tolerance: float, meet: Callable[[], object] = lambda: None
) -> Results:
    """Measures peers side by side.

    Args:
        peers: the first is what the others are compared with.
        pairs: timings of each.
        repeats: steps in one timing.
        tolerance: how far the losses may be apart, relatively.
        meet: returns once all ranks have called it and the device is idle.

    Raises:
        ValueError: the losses are further apart.
    """
    steps: dict[str, Step] = {}
    losses: dict[str, list[float | None]] = {}
    first: dict[str, float] = {}
    for peer in peers:
        meet()
        start = time.perf_counter()
        steps[peer.name] = step = peer.build()
        losses[peer.name] = [step()()]
        first[peer.name] = time.perf_counter() - start
        losses[peer.name] += [step()() for _ in range(LOSSES - 1)]
    require_equal(losses, tolerance)
    timers = {name: partial(seconds, step, repeats, meet) for name, step in steps.items()}
    tried = slower(peers, timers)
    return Results(first, tried, alternate({n: t for n, t in timers.items() if n not in tried}, pairs))


def require_equal(losses: dict[str, list[float | None]], tolerance: float) -> None:
    """Raises unless the losses of all are those of the first; None stands for a rank that has no loss."""
    (reference, expected), *others = losses.items()
    for name, found in others:
        for step, (a, b) in enumerate(zip(expected, found, strict=True)):
            if a is not None and b is not None and not abs(a - b) <= tolerance * abs(a):
                raise ValueError(
                    f"the loss of step {step} is {a} with {reference} and {b} with {name}, further apart than "
                    f"{tolerance}: they do not compute the same, so their times cannot be compared; mend the peer."
                )


def slower(peers: Sequence[Peer], timers: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The times of those peers that another of their group beats, each timed once after once for warmth."""
    groups: dict[str, list[str]] = {}
    for peer in peers:
        if peer.group is not None:
            groups.setdefault(peer.group, []).append(peer.name)
    tried: dict[str, float] = {}
    for names in groups.values():
        times = {name: min(timers[name](), timers[name]()) for name in names}
        fastest = min(times, key=times.__getitem__)
        tried |= {name: t for name, t in times.items() if name != fastest}
    return tried
