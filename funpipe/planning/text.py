"""Plans as tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from funpipe.planning.candidate import Dropped
from funpipe.planning.units import of_bytes, of_seconds

if TYPE_CHECKING:
    from funpipe.planning.plans import Plan, Plans

HEAD = ("", "step", "pp", "dp", "shard", "stages", "schedule", "microbatches", "remat", "bubble", "memory", "limit")

RANKS_SHOWN = 16


def plans_text(plans: Plans, width: int | None = None) -> str:
    """One line for each plan, and one for each way to divide the devices that fell out; broken at a width."""
    rows = [HEAD, *(_row(i, plan) for i, plan in enumerate(plans.plans))]
    table = folded(rows, width) if plans.plans else wrapped(plans.nothing, width)
    more = [f"and {plans.slower} candidates that are slower"] if plans.slower and plans.plans else []
    dropped = [part for line in _dropped_text(plans.dropped) for part in wrapped(line, width)]
    return "\n".join([*table, *more, *dropped])


def _row(index: int, plan: Plan) -> tuple[str, ...]:
    c = plan.candidate
    full = max(plan.memory)
    return (
        str(index),
        of_seconds(plan.seconds),
        str(c.pp),
        str(c.dp),
        f"{c.shard}{' (no run)' if c.shard else ''}",
        str(c.num_stages // c.pp),
        schedule_text(c.schedule).removesuffix(f"(stages_per_rank={c.num_stages // c.pp})"),
        f"{c.num_microbatches} of {c.rows}",
        str(c.remat),
        f"{100 * plan.bubble:.1f} %",
        f"{of_bytes(full)} (rank {plan.memory.index(full)})",
        plan.limit,
    )


def schedule_text(schedule: object) -> str:
    """A schedule's name, without empty brackets."""
    return str(schedule).removesuffix("()")


def _dropped_text(dropped: Sequence[Dropped]) -> list[str]:
    """For each pair of pp and dp how many fell out, and the reason of what came nearest."""
    groups: dict[tuple[int, int], list[Dropped]] = {}
    for each in dropped:
        groups.setdefault((each.pp, each.dp), []).append(each)
    lines = [f"  pp={pp} dp={dp}: {_reason(group)}" for (pp, dp), group in groups.items()]
    return ["", "fell out:", *lines] if lines else []


def _reason(group: Sequence[Dropped]) -> str:
    """The reason of the one that needs the least memory, if memory is the reason of any."""
    short = [d for d in group if d.nbytes is not None]
    nearest = min(short, key=lambda d: d.nbytes or 0.0) if short else group[0]
    what = "" if nearest.candidate is None else f"{len(group)}; the nearest "
    how = "" if nearest.candidate is None else f" ({_how(nearest)})"
    return f"{what}{nearest.reason}{how}"


def _how(dropped: Dropped) -> str:
    c = dropped.candidate
    return "" if c is None else f"{schedule_text(c.schedule)}, {c.num_microbatches} of {c.rows}, remat {c.remat}"


def plan_text(plan: Plan) -> str:
    """The candidate, the parts of its time, and its ranks."""
    parts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in plan.prediction.shares.items())
    ranks = [("rank", "stages", "busy", "update", "reduce", "memory"), *_ranks(plan)]
    more = len(plan.memory) - RANKS_SHOWN
    tail = [f"and {more} more ranks"] if more > 0 else []
    return "\n".join([str(plan.candidate), f"step {of_seconds(plan.seconds)}: {parts}", *aligned(ranks), *tail])


def _ranks(plan: Plan) -> list[tuple[str, ...]]:
    placement = plan.candidate.schedule.placement(plan.candidate.pp)
    found = plan.prediction
    return [
        (
            str(rank),
            " ".join(str(s) for s, r in enumerate(placement) if r == rank),
            of_seconds(found.simulation.busy[rank]),
            of_seconds(found.updating[rank]),
            of_seconds(found.reducing[rank]),
            of_bytes(plan.memory[rank]),
        )
        for rank in range(min(plan.candidate.pp, RANKS_SHOWN))
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, two spaces between them; numbers would not gain from being right-aligned with units."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def folded(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Aligned columns; those that go beyond a width stand in a line of their own below, under the second column.

    Example:
        >>> folded([("", "step", "bubble"), ("0", "2 ms", "5 %")], width=10)
        ['   step', '   bubble', '0  2 ms', '   5 %']
    """
    fit = len(rows[0])
    while width is not None and fit > 2 and max(map(len, aligned([row[:fit] for row in rows]))) > width:
        fit -= 1
    lines = aligned([row[:fit] for row in rows])
    if fit == len(rows[0]):
        return lines
    first = max(len(row[0]) for row in rows)
    rest = folded([(" " * first, *row[fit:]) for row in rows], width)
    each = len(rest) // len(rows)
    return [line for i, top in enumerate(lines) for line in (top, *rest[i * each : (i + 1) * each])]


def wrapped(line: str, width: int | None) -> list[str]:
    """A line broken between words; what follows is indented."""
    return [line] if width is None else wrap(line, max(width, 20), subsequent_indent="    ") or [""]
