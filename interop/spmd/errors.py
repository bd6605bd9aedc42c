"""Errors of this layer: each is a `FunpipeError`, and of the type that torch.distributed._spmd raised there."""

from funpipe import FunpipeError


class SpmdValueError(FunpipeError):
    """An argument with a value that cannot be; a `ValueError` there and here."""


class SpmdTypeError(FunpipeError, TypeError):
    """An argument of the wrong type."""


class SpmdAssertionError(FunpipeError, AssertionError):
    """Arguments, graphs or passes that contradict each other."""


class SpmdRuntimeError(FunpipeError, RuntimeError):
    """A step, a graph or a style of parallelism that cannot be had."""


class SpmdNotImplementedError(FunpipeError, NotImplementedError):
    """Something that nothing here can do."""


class SpmdAttributeError(FunpipeError, AttributeError):
    """A name that this layer does not have; what to use instead is said."""


class SpmdIndexError(FunpipeError, IndexError):
    """A node that is not in the graph."""
