"""How a value shows itself in a notebook: through a drawer that is left here by whoever can draw.

Tables and simulations know no pictures, and `display`, which does, imports them; so it leaves its function here.
"""

from collections.abc import Callable
from typing import Any

_drawers: list[Callable[[Any], str | None]] = []


class Drawn:
    """What has a picture of its own in a notebook.

    Example:
        >>> import funpipe as fp
        >>> fp.schedules.GPipe().table(2, 2)._repr_svg_()[:4]
        '<svg'
    """

    def _repr_svg_(self) -> str | None:
        """The picture as SVG, by the protocol of IPython; None where nobody can draw."""
        return _drawers[-1](self) if _drawers else None


def draw_with(drawer: Callable[[Any], str | None]) -> None:
    """Takes the function that makes the SVG text of a drawn value, in place of the one before.

    Args:
        drawer: from a value to SVG text; None where it has no picture.
    """
    _drawers[:] = [drawer]
