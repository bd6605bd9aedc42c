"""Operators that the tracer does not note, each with what it notes in its place."""

from funpipe.tracing.decompositions.table import DECOMPOSITIONS as DECOMPOSITIONS
from funpipe.tracing.decompositions.table import decomposing as decomposing
