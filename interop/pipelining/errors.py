"""Errors of this layer: each is a `FunpipeError`, and of the type that torch.distributed.pipelining raises there."""

from funpipe import FunpipeError


class PipeValueError(FunpipeError):
    """An argument with a value that cannot be; a `ValueError` there and here."""


class PipeTypeError(FunpipeError, TypeError):
    """An argument of the wrong type."""


class PipeRuntimeError(FunpipeError, RuntimeError):
    """A call that cannot be made in this state, or a stage that failed while it ran."""


class Untraceable(PipeRuntimeError):
    """A stage computes with values read out of tensors, so that no program can be made of it."""


class PipeAssertionError(FunpipeError, AssertionError):
    """Values, actions or schedules that contradict each other."""


class PipeAttributeError(FunpipeError, AttributeError):
    """A submodule or attribute that the model does not have."""


class PipeIndexError(FunpipeError, IndexError):
    """An index of a stage, a microbatch or an output that is out of range."""


class PipeNotImplementedError(FunpipeError, NotImplementedError):
    """Something that a subclass has to define, or that nothing here can do."""


class PipeImportError(FunpipeError, ImportError):
    """A package that is not installed; the extra that brings it is named."""


class PipeliningMetadataError(PipeRuntimeError):
    """Tensors at the border of a stage that are not what the stage expects: their types, shapes, dtypes or strides."""
