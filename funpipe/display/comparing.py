"""`compare`: what was predicted above what was measured."""

from collections.abc import Iterable
from dataclasses import replace

from funpipe._errors import ScheduleError
from funpipe._typing import MeshShape
from funpipe.display.boxes import Box, Picture
from funpipe.display.lengths import require_seconds
from funpipe.display.measured import Measured, ends, of_profile, tasks_of
from funpipe.display.planned import of_simulation
from funpipe.display.window import EVERYTHING, MOST_BOXES, Window, note
from funpipe.schedules import Simulation

_MS = 1e3


def compare(
    simulation: Simulation,
    profile: Measured,
    *,
    seconds: float = 1.0,
    replica: int = 0,
    ranks: Iterable[int] | None = None,
    time: tuple[float, float] | None = None,
) -> Picture:
    """A simulation and the profile of a real step on one axis of time, for each rank one above the other.

    The prediction begins where the first task that was measured begins.

    Args:
        simulation: of the table that the step runs.
        profile: what `step.profile(state, batch)` gives.
        seconds: the length of a unit of the simulation's time.
        replica: which one's ranks are shown.
        ranks: pipeline ranks; None: all.
        time: begin and end of what is shown, in milliseconds of the profile; None: all.

    Returns:
        A picture with two rows for each rank, in milliseconds; a notebook shows it, `svg` and `text` draw it.

    Raises:
        ScheduleError: the profile is not of as many pipeline ranks, has no such ranks or replica, `seconds` is not
            above 0, or there are too many boxes for one picture.

    Example:
        >>> from funpipe import MeshShape
        >>> from funpipe.runtime.profiling import Event, Profile
        >>> from funpipe.schedules import GPipe, simulate
        >>> events = (Event(0, "run F0 0", "F", 0, 0, 0.0, 0.002), Event(0, "run B0 0", "B", 0, 0, 0.002, 0.007))
        >>> profile = Profile(events, MeshShape(1))
        >>> from funpipe.display import text
        >>> print(text(compare(simulate(GPipe().table(1, 1), F=0.002, B=0.004), profile), width=28))
        rank 0 predicted | F0------B0==============....
        rank 0 measured  | F0------B0==================
        time             | 0                   5
        F- forward, B= backward, . idle; a character is 0.25 ms
    """
    table = simulation.table
    require_seconds(seconds)
    _require_measured(table.num_ranks, replica, profile.mesh)
    rows = Window.of(ranks, time).rows(table.num_ranks)
    scale, first = _MS * seconds, _first_task(profile)
    told = None if time is None else ((time[0] - first) / scale, (time[1] - first) / scale)
    predicted = of_simulation(simulation, replace(EVERYTHING, ranks=tuple(rows), time=told))
    real = tuple(replica * table.num_ranks + rank for rank in rows)
    measured = of_profile(profile, replace(EVERYTHING, ranks=real, time=time))
    boxes = (*(_moved(box, scale, first) for box in predicted.boxes), *(_below(box) for box in measured.boxes))
    if len(boxes) > MOST_BOXES * 2:
        raise ScheduleError(f"{len(boxes)} boxes are too many for one picture; pass time=(begin, end) in milliseconds.")
    names = tuple(f"rank {rank} {word}" for rank in rows for word in ("predicted", "measured"))
    begin, end = time or (0.0, max(measured.end, predicted.end * scale + first))
    left_out = note(rows, table.num_ranks, (begin, end), max(ends(profile), simulation.makespan * scale + first))
    return Picture(names, boxes, begin, end, "ms", 1 / _MS, left_out)


def _require_measured(num_ranks: int, replica: int, mesh: MeshShape) -> None:
    if num_ranks != mesh.pp:
        raise ScheduleError(
            f"the simulated table has {num_ranks} ranks, but {mesh.pp} were measured; "
            "simulate the table of the step, step.lowered.schedule."
        )
    if replica not in range(mesh.dp):
        raise ScheduleError(f"replica={replica!r} was not measured; pass one from 0 to {mesh.dp - 1}.")


def _first_task(profile: Measured) -> float:
    """When it begins, in milliseconds."""
    return _MS * min((event.start for event in profile.events if tasks_of(event)), default=0.0)


def _moved(box: Box, scale: float, first: float) -> Box:
    """A predicted box on the axis of the measured ones."""
    start, end = (at * scale + first for at in (box.start, box.end))
    title = f"{box.title.partition(':')[0]}: {start:.4g} to {end:.4g} ms"
    return replace(box, row=2 * box.row, start=start, end=end, title=title)


def _below(box: Box) -> Box:
    return replace(box, row=2 * box.row + 1)
