"""What the tests of all schedules share: the sizes of the formulas, and runs by the times of a rank's whole share."""

from funpipe.schedules import Schedule, Simulation, simulate

SIZES = [(p, m) for p in (2, 4, 8, 16) for m in sorted({p, 2 * p, 4 * p, 48})]


def sizes(least):
    """The sizes for which a schedule exists that needs `least(p)` microbatches."""
    return [(p, m) for p, m in SIZES if m >= least(p)]


def run(schedule: Schedule, p: int, m: int, F=1.0, I=1.0, W=1.0, **more) -> Simulation:
    """A simulation in which a rank's v stages together take F, I and W."""
    v = schedule.num_stages(p) // p
    return simulate(schedule.table(p, m), F=F / v, I=I / v, W=W / v, **more)


def peaks(schedule: Schedule, p: int, m: int) -> list[float]:
    """Each rank's peak, in activations of its whole share."""
    v = schedule.num_stages(p) // p
    return [peak / v for peak in run(schedule, p, m).peak_activations]


def picture(schedule: Schedule, p: int, m: int) -> str:
    """The rows of the grid."""
    return "\n".join(schedule.table(p, m).as_text().splitlines()[1:-1]) + "\n"
