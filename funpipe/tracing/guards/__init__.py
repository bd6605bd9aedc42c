"""Guards: values that a function reads in Python while it is traced, and how to find out whether they still hold."""

from funpipe.tracing.guards.guard import Guard as Guard
from funpipe.tracing.guards.guard import Key as Key
from funpipe.tracing.guards.guard import is_real as is_real
from funpipe.tracing.guards.reads import Reads as Reads
from funpipe.tracing.guards.updated import is_kept as is_kept
from funpipe.tracing.guards.updated import read_and_updated as read_and_updated
