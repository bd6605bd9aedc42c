"""A message on its way here: a header that says what comes, then the tensors."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from funpipe.interop.pipelining.walking import header
from funpipe.interop.pipelining.walking.together import PeerFailed

Tensors = dict[int, torch.Tensor | None]


@dataclass
class Arrival:
    """A message on its way here.

    Args:
        first: where the first part of its header goes.
        started: what waits for that.
        receive: receives one more tensor of the message, and returns when it is there.
        deliver: is given the tensors.
        sender: the rank that sends it.
    """

    first: torch.Tensor
    started: dist.Work | None
    receive: Callable[[torch.Tensor], None]
    deliver: Callable[[Tensors], None]
    sender: int
    over: bool = False

    def wait(self) -> None:
        """Waits for the message and delivers it; once.

        Raises:
            PeerFailed: its sender failed.
        """
        if not self.over:
            tensors = self._tensors()
            if tensors is None:
                raise PeerFailed(f"rank {self.sender} failed")
            self.deliver(tensors)

    def discard(self) -> None:
        """Waits for the message and forgets it."""
        if not self.over:
            self._tensors()

    def _tensors(self) -> Tensors | None:
        """What arrived; None if the sender failed."""
        self.over = True
        if self.started is not None:
            self.started.wait()
        if header.is_failed(self.first):
            return None
        rest = torch.empty(header.length_of_rest(self.first), dtype=torch.int64)
        if rest.numel():
            self.receive(rest)
        tensors = header.decode(self.first, rest)
        for tensor in tensors.values():
            if tensor is not None and tensor.numel():
                self.receive(tensor.detach())
        return tensors
