"""Messages between ranks, with torch.distributed's point-to-point operations on the CPU.

A message has a tag of its own, so that receives can be posted early and in any order. Sending never blocks; what was
sent is waited for at the end of the step. Tensors of other devices are sent from copies on the CPU.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from funpipe.interop.pipelining.walking import header
from funpipe.interop.pipelining.walking.arrival import Arrival, Tensors
from funpipe.interop.pipelining.walking.message import Message


@dataclass
class Post:
    """The messages of one rank in one step.

    Args:
        group: the ranks.
        num_stages: of the pipeline.
        num_microbatches: of the step.
    """

    group: dist.ProcessGroup | None
    num_stages: int
    num_microbatches: int
    sent: set[Message] = field(default_factory=set)
    arrivals: dict[Message, Arrival] = field(default_factory=dict)
    leaving: list[tuple[dist.Work | None, torch.Tensor]] = field(default_factory=list)

    def send(self, message: Message, rank: int, tensors: Mapping[int, torch.Tensor | None]) -> None:
        """Starts to send some tensors, which must not change until `flush`."""
        first, rest = header.encode(tensors)
        payload = [tensor.detach().cpu().contiguous() for tensor in tensors.values() if tensor is not None]
        self._start(message, rank, [first, *([] if rest is None else [rest]), *payload])

    def send_failure(self, message: Message, rank: int) -> None:
        """Says that a message will not come; nothing is done if it was sent."""
        if message not in self.sent:
            self._start(message, rank, [header.failed()])

    def _start(self, message: Message, rank: int, tensors: list[torch.Tensor]) -> None:
        self.sent.add(message)
        tag = message.tag(self.num_stages, self.num_microbatches)
        for tensor in tensors:
            if tensor.numel():
                self.leaving.append((dist.isend(tensor, group=self.group, group_dst=rank, tag=tag), tensor))

    def receive(self, message: Message, rank: int, deliver: Callable[[Tensors], None]) -> Arrival:
        """Starts to receive a message; the same `Arrival` again if that was done."""
        if message not in self.arrivals:
            tag = message.tag(self.num_stages, self.num_microbatches)
            first = torch.empty(header.SIZE, dtype=torch.int64)
            started = dist.irecv(first, group=self.group, group_src=rank, tag=tag)

            def receive(tensor: torch.Tensor) -> None:
                dist.recv(tensor, group=self.group, group_src=rank, tag=tag)

            self.arrivals[message] = Arrival(first, started, receive, deliver, rank)
        return self.arrivals[message]

    def end(self) -> None:
        """Takes out all messages that nobody waited for: left in the network they would meet the next step's."""
        for arrival in self.arrivals.values():
            arrival.discard()
        self.flush()

    def flush(self) -> None:
        """Waits until all that was sent has left."""
        for work, _ in self.leaving:
            if work is not None:
                work.wait()
        self.leaving.clear()
