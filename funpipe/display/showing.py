"""`picture`: of whatever has one."""

from collections.abc import Iterable

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.display.boxes import Picture
from funpipe.display.measured import Measured, of_profile
from funpipe.display.planned import of_simulation, of_table
from funpipe.display.window import Window
from funpipe.schedules import Simulation, Table

Drawable = Table | Simulation | Measured | Picture
"""What has a picture: a table, a simulation, the profile of a step, or a picture that is made but not yet drawn."""


def picture(x: Drawable, *, ranks: Iterable[int] | None = None, time: tuple[float, float] | None = None) -> Picture:
    """The boxes of a table, a simulation or a profile, before they are drawn.

    Args:
        x: a table (a slot is a unit of time), a simulation, a profile (in milliseconds), or a picture, as it is.
        ranks: whose rows; None: all, of many the first ones.
        time: begin and end of what is shown; None: all, of very many boxes the first ones.

    Returns:
        The picture, with a note on what it leaves out.

    Raises:
        FunpipeTypeError: `x` has no picture.
        ScheduleError: a rank that is not there, a time that ends before it begins, or either with a picture, which is
            made.

    Example:
        >>> from funpipe.schedules import GPipe
        >>> picture(GPipe().table(2, 4), ranks=[1], time=(0, 6))
        Picture(1 rows, 5 boxes, 0 to 6 slot)
    """
    return pictured(x, Window.of(ranks, time))


def pictured(x: Drawable, window: Window) -> Picture:
    """The picture of what a window shows."""
    match x:
        case Picture():
            _require_all(window)
            return x
        case Table():
            return of_table(x, window)
        case Simulation():
            return of_simulation(x, window)
        case Measured():
            return of_profile(x, window)
    raise FunpipeTypeError(f"a {type(x).__name__} has no picture; pass a table, a simulation or a profile.")


def _require_all(window: Window) -> None:
    if window.ranks is not None or window.time is not None:
        raise ScheduleError("a picture is drawn as it is; pass ranks= and time= to what makes it, such as `compare`.")
