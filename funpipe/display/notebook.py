"""Tables, simulations and pictures show themselves in notebooks."""

from funpipe.display.drawing import svg
from funpipe.display.showing import Drawable
from funpipe.schedules.drawn import draw_with


def shown(x: Drawable) -> str:
    """What a notebook shows of a value."""
    return svg(x)


draw_with(shown)
