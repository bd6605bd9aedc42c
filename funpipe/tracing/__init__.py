"""Tracing: a pure loss function becomes the joint graph of one microbatch."""

from funpipe._errors import DataDependentError as DataDependentError
from funpipe._errors import TraceError as TraceError
from funpipe.tracing.decompositions import decomposing as decomposing
from funpipe.tracing.imperative import imperative_graph as imperative_graph
from funpipe.tracing.part import Leaf as Leaf
from funpipe.tracing.part import Part as Part
from funpipe.tracing.step import trace_step as trace_step
from funpipe.tracing.trace import trace as trace
from funpipe.tracing.traced import Mark as Mark
from funpipe.tracing.traced import Traced as Traced
