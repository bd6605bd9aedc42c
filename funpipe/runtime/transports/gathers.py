"""All-gathers of one tensor from each rank, as programs and agreements have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe._typing import TensorType
from funpipe.backends.transport import Group
from funpipe.runtime.transports import request, wire
from funpipe.runtime.transports.collectives import KINDS
from funpipe.runtime.transports.meetings import Meeting
from funpipe.runtime.transports.memory import LARGEST
from funpipe.runtime.transports.packing import packing

if TYPE_CHECKING:
    from funpipe.runtime.transports.distributed import Distributed


@dataclass(frozen=True)
class Gathering:
    """One through torch.distributed; implements `Pending`."""

    transport: "Distributed"
    group: Group
    work: dist.Work
    own: Tensor
    parts: list[Tensor]

    def wait(self) -> list[Tensor]:
        """See `Pending.wait`."""
        try:
            self.transport.wait_works([self.work], self.group)
        except (RuntimeError, OSError) as error:
            self.transport.fail_collective("all_gather", self.group, error)
        return self.parts


@dataclass(frozen=True)
class Met:
    """One through shared memory; implements `Pending`."""

    transport: "Distributed"
    what: str
    group: Group
    meeting: Meeting
    own: Tensor

    def wait(self) -> list[Tensor]:
        """See `Pending.wait`."""
        try:
            parts = self.transport.near.parts(self.meeting, self.transport.timeout)
            type = TensorType.of(self.own)
            own = wire.as_bytes(self.own)
            return [wire.typed(parts.get(rank, own), type) for rank in self.transport.ranks[self.group]]
        except (RuntimeError, OSError) as error:
            self.transport.fail_collective(self.what, self.group, error)


def start(
    transport: "Distributed", own: Tensor, group: Group, makers: Sequence[int] | None, what: str = "all_gather"
) -> Gathering | Met:
    """Starts one.

    Args:
        transport: this rank's.
        own: dense, and nobody else's: it does not change.
        group: who takes part.
        makers: see `Distributed.all_gather_start`.
        what: its name in errors.

    Raises:
        TransportError: another rank has ended.
    """
    transport.require_whole()
    way = _near if group in transport.meeting and own.nbytes <= LARGEST else _far
    try:
        return way(transport, own, group, makers, what)
    except (RuntimeError, OSError) as error:
        transport.fail_collective(what, group, error)


def _near(transport: "Distributed", own: Tensor, group: Group, makers: Sequence[int] | None, what: str) -> Met:
    """Through shared memory."""
    ranks = transport.ranks[group]
    named = None if makers is None else [ranks[maker] for maker in makers]
    form = request.form(what, packing([own]))
    return Met(transport, what, group, transport.near.meet(KINDS[group], ranks, wire.as_bytes(own), form, named), own)


def _far(transport: "Distributed", own: Tensor, group: Group, makers: Sequence[int] | None, what: str) -> Gathering:
    """Through torch.distributed, from all ranks."""
    parts = [torch.empty_like(own) for _ in transport.ranks[group]]
    flat = [wire.as_bytes(part) for part in parts]
    work = transport.groups[group].allgather([flat], [wire.as_bytes(own)])
    return Gathering(transport, group, work, own, parts)
