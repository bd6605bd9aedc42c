"""`Form`: how a program takes what it reads, and how it leaves gradients, where that is not a train step's way."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """How inputs and gradients of a program look; by default as `train_step` has them.

    Args:
        loose_params: each parameter is an input of its own, where it is; only gradients lie in buckets, and without an
            optimizer they are results as ever.
        sum_gradients: gradients are sums over the microbatches; else means.
        split_batch: the program splits the batch; else each microbatch is an input of its own, `batch.NAME@i`.
    """

    loose_params: bool = False
    sum_gradients: bool = False
    split_batch: bool = True


TRAIN_STEP = Form()
"""That of a train step."""
