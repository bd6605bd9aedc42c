"""What is wrong with a model or its arguments."""

from funpipe import FunpipeError


class ModelError(FunpipeError):
    """A model without what is asked of it: a list of layers, or a loss."""
