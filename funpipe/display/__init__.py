"""Pictures of tables, simulations and profiles: as text, as SVG that notebooks show, as trace files."""

from funpipe.display import notebook as notebook
from funpipe.display.boxes import Box as Box
from funpipe.display.boxes import Curve as Curve
from funpipe.display.boxes import Picture as Picture
from funpipe.display.comparing import compare as compare
from funpipe.display.drawing import Svg as Svg
from funpipe.display.drawing import svg as svg
from funpipe.display.showing import picture as picture
from funpipe.display.tracing import trace as trace
from funpipe.display.writing import text as text
