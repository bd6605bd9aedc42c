"""A profile as two tables."""

from collections.abc import Mapping, Sequence

from funpipe.runtime.profiling.event import SHARES, Event

_WIDTHS = {share: max(len(share), 7) + 3 if share != "communication" else 15 for share in SHARES}


def kinds_text(events: Sequence[Event]) -> str:
    """How often each kind of instruction ran, how long in all, and how long on average."""
    lines = [f"{'kind':<20}{'count':>10}{'total ms':>10}{'mean ms':>10}"]
    for kind in dict.fromkeys(event.kind for event in events):
        times = [1e3 * event.duration for event in events if event.kind == kind]
        lines.append(f"{kind:<20}{len(times):>10}{sum(times):>10.3f}{sum(times) / len(times):>10.3f}")
    return "\n".join(lines)


def shares_text(spans: Sequence[float], shares: Sequence[Mapping[str, float]]) -> str:
    """A line for each rank: the length of its step in seconds as milliseconds, and the shares as percentages."""
    lines = [f"{'rank':<5}{'ms':>10}" + "".join(f"{share:>{_WIDTHS[share]}}" for share in SHARES)]
    for rank, (span, parts) in enumerate(zip(spans, shares, strict=True)):
        cells = (f"{100 * parts[share]:.1f} %".rjust(_WIDTHS[share]) for share in SHARES)
        lines.append(f"{rank:<5}{1e3 * span:>10.3f}" + "".join(cells))
    return "\n".join(lines)
