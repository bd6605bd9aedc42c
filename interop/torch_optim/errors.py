"""What is wrong with an optimizer of torch, or its state."""

import funpipe as fp


class TorchOptimError(fp.FunpipeError):
    """An optimizer of torch that cannot be used, or a state of one that does not fit."""
