"""A collective under way: its results, which are not there yet, and what waits for them."""

from collections.abc import Callable

from torch import Tensor


class Arriving:
    """Implements `Collective`.

    Args:
        results: what is given when it is over.
        finish: blocks until they are filled; called once. None: they are.

    Example:
        >>> import torch
        >>> x = torch.zeros(2)
        >>> started = Arriving([x], lambda: x.fill_(1))
        >>> started.results
        [tensor([0., 0.])]
        >>> started.wait()
        [tensor([1., 1.])]
    """

    def __init__(self, results: list[Tensor], finish: Callable[[], object] | None = None) -> None:
        self.results, self.finish = results, finish

    def wait(self) -> list[Tensor]:
        """See `Collective.wait`."""
        if self.finish is not None:
            self.finish()
            self.finish = None
        return self.results
