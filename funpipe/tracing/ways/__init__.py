"""Ways to trace: what is done with modules that the functional trace cannot read."""

from funpipe.tracing.ways.attempt import WAYS as WAYS
from funpipe.tracing.ways.attempt import Attempt as Attempt
from funpipe.tracing.ways.attempt import Way as Way
from funpipe.tracing.ways.opaque import Opaque as Opaque
