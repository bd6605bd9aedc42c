"""Rotation: chosen work of a step moves into the next one, where it overlaps with the forward."""

from funpipe.passes.rotation.agreement import require_agreement as require_agreement
from funpipe.passes.rotation.callables import Rotated as Rotated
from funpipe.passes.rotation.callables import rotate as rotate
from funpipe.passes.rotation.callables import rotated_of as rotated_of
from funpipe.passes.rotation.cut import rotated as rotated
from funpipe.passes.rotation.graphs import RotatedGraphs as RotatedGraphs
from funpipe.passes.rotation.selectors import Selector as Selector
from funpipe.passes.rotation.selectors import closure_of as closure_of
from funpipe.passes.rotation.selectors import collectives as collectives
from funpipe.passes.rotation.selectors import updates as updates
from funpipe.passes.rotation.selectors import waits as waits
