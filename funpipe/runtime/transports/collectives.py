"""Collectives that a process starts and later waits for, each by the fastest way that its size and its group have.

    one rank, or no bytes           copies
    ranks of one host, small        parts through the channels' memory, a copy for each neighbour
    ranks of one host, larger       parts lent: written once, and read by all where they lie (`lending`)
    else                            torch.distributed

Results are allocated at the start, so that a caller can tell what it will wait for.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe.backends.transport import Group
from funpipe.runtime.transports import lending
from funpipe.runtime.transports.arriving import Arriving
from funpipe.runtime.transports.delayed import late
from funpipe.runtime.transports.request import Request, real

if TYPE_CHECKING:
    from funpipe.runtime.transports.distributed import Distributed

LENT_FROM = 2**17
"""Bytes of a part above which it is lent; a smaller one is copied sooner than a block is returned."""

KINDS: dict[Group, int] = {"world": 1, "pp": 2, "dp": 3}
"""Of meetings."""

_OPERATION = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}


def is_copy(wanted: Request) -> bool:
    """Whether no other rank is needed."""
    return wanted.size == 1 or wanted.given.nbytes == 0


def copied(wanted: Request, tensors: Sequence[Tensor]) -> Arriving:
    """The results where no other rank is needed: the tensors themselves, or nothing at all."""
    if wanted.size == 1:
        return Arriving([t.detach().clone(memory_format=torch.contiguous_format) for t in tensors])
    return Arriving([t.new_empty(place.shape) for t, place in zip(tensors, wanted.results.places, strict=True)])


def start(
    transport: "Distributed", wanted: Request, tensors: Sequence[Tensor], group: Group, into: Tensor | None = None
) -> Arriving:
    """Starts a collective between processes.

    Args:
        transport: this rank's.
        wanted: what is asked for.
        tensors: what this rank gives.
        group: who takes part.
        into: bytes for the results; None: new ones.

    Raises:
        TransportError: another rank has ended.
    """
    transport.require_whole()
    if is_copy(wanted):
        return copied(wanted, tensors)
    out = _memory(transport, wanted.results.nbytes) if into is None else into
    way = _near if group in transport.meeting else _far
    try:
        finish = way(transport, wanted, tensors, group, out)
    except (RuntimeError, OSError) as error:
        transport.fail_collective(wanted.what, group, error)
    started = Arriving(wanted.results.views(out), _finishing(transport, wanted, group, finish))
    return late(started, transport, group) if transport.lag else started


def _finishing(
    transport: "Distributed", wanted: Request, group: Group, finish: Callable[[], None]
) -> Callable[[], None]:
    """The wait, with an error that names the collective."""

    def finished() -> None:
        try:
            finish()
        except (RuntimeError, OSError) as error:
            transport.fail_collective(wanted.what, group, error)

    return finished


def _near(
    transport: "Distributed", wanted: Request, tensors: Sequence[Tensor], group: Group, out: Tensor
) -> Callable[[], None]:
    """Through shared memory."""
    near, ranks, timeout = transport.near, transport.ranks[group], transport.timeout
    given, kind = wanted.given, KINDS[group]
    if given.nbytes > LENT_FROM:
        meeting = lending.lend(near, kind, ranks, given.nbytes, partial(given.put, tensors), wanted.form)
    else:
        meeting = near.meet(kind, ranks, _packed(transport, wanted, tensors), wanted.form)

    def finish() -> None:
        parts = near.parts(meeting, timeout)
        wanted.fill([parts[rank] for rank in ranks], out)
        lending.give_back(near, meeting)

    return finish


def _far(
    transport: "Distributed", wanted: Request, tensors: Sequence[Tensor], group: Group, out: Tensor
) -> Callable[[], None]:
    """Through torch.distributed."""
    if wanted.what == "all_gather":
        part = _packed(transport, wanted, tensors)
        works = [transport.groups[group].allgather([list(out.view(wanted.size, -1))], [part])]
        return lambda: transport.wait_works(works, group)
    if wanted.what == "reduce_scatter":
        return _share(transport, wanted, tensors, group, out)
    wanted.given.put(tensors, out)
    works = _reduced(transport, wanted, out, group)
    return lambda: transport.wait_works(works, group)


def _share(
    transport: "Distributed", wanted: Request, tensors: Sequence[Tensor], group: Group, out: Tensor
) -> Callable[[], None]:
    """A reduce_scatter as the whole sum, of which each rank keeps its share: gloo has no other."""
    whole = _packed(transport, wanted, tensors)
    works = _reduced(transport, wanted, whole, group)

    def finish() -> None:
        transport.wait_works(works, group)
        out.copy_(whole.view(wanted.size, -1)[wanted.place])

    return finish


def _reduced(transport: "Distributed", wanted: Request, raw: Tensor, group: Group) -> list[dist.Work | None]:
    """Starts to combine packed tensors in place, dtype by dtype."""
    assert wanted.reduce is not None
    operation, within = _OPERATION[wanted.reduce], transport.groups[group]
    return [dist.all_reduce(real(r).of(raw), operation, within, async_op=True) for r in wanted.given.runs]


def _packed(transport: "Distributed", wanted: Request, tensors: Sequence[Tensor]) -> Tensor:
    """A copy of what this rank gives."""
    raw = _memory(transport, wanted.given.nbytes)
    wanted.given.put(tensors, raw)
    return raw


def _memory(transport: "Distributed", nbytes: int) -> Tensor:
    """Bytes on the transport's device."""
    device = transport.mesh.device
    if device.type == "cpu":
        return transport.memory.take(nbytes)
    return torch.empty(nbytes, dtype=torch.uint8, device=device)
