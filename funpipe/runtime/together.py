"""What all ranks do alike: an error of one is raised on all before anything is sent, and never after.

Before a step, one number goes round: a hash of the batch's shapes, or that this rank cannot go on. A step that raises
after its first message may leave messages under way, so its transport is not used again.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from funpipe._errors import BatchError, FunpipeError
from funpipe.backends.transport import Transport
from funpipe.runtime.inputs import BatchInputs
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.transports import Distributed

_FAILED = -1
_transports: list[Distributed] = []


def transport_of(mesh: Mesh) -> Distributed:
    """The transport of a mesh: one for all its steps, so that an interrupted step is known to all of them.

    Args:
        mesh: the processes.
    """
    _transports[:] = [t for t in _transports if not t.mesh.closed]
    known = next((t for t in _transports if t.mesh is mesh), None)
    if known is None:
        known = Distributed(mesh)
        _transports.append(known)
    return known


@contextmanager
def telling(transport: Transport | None, mesh: Mesh | None) -> Iterator[None]:
    """While open, an error on this rank is told to the others, which wait in `require_same_batches`."""
    try:
        yield
    except FunpipeError:
        _gathered(_FAILED, transport, mesh)
        raise


def require_same_batches(inputs: BatchInputs, transport: Transport | None, mesh: Mesh | None) -> None:
    """Raises on every rank unless all of them got a batch, and of the same shapes.

    Args:
        inputs: this rank's batch.
        transport: to the others; None where there are none.
        mesh: the ranks.

    Raises:
        BatchError: a rank cannot go on, or has other shapes; it is named.
    """
    found = _gathered(_digest(inputs), transport, mesh)
    if _FAILED in found:
        raise BatchError(
            f"global rank {found.index(_FAILED)} cannot run this step, so no rank does: its own error says why. "
            "Correct what it was given there."
        )
    odd = [rank for rank, digest in enumerate(found) if digest != found[0]]
    if odd:
        raise BatchError(
            f"batch: global rank {odd[0]} got a batch of other shapes than rank 0 in the same step: pass every rank a "
            "batch of the same sizes, for instance by dropping or padding (fp.microbatch.pad) the last one."
        )


@contextmanager
def breaking(transport: Transport | None) -> Iterator[None]:
    """While open, an error makes the transport refuse everything after: its messages would pair with older ones."""
    try:
        yield
    except BaseException as error:
        if isinstance(transport, Distributed):
            transport.give_up(error)
        raise


def _gathered(number: int, transport: Transport | None, mesh: Mesh | None) -> list[int]:
    """One number of every rank, in the order of the ranks."""
    if transport is None or mesh is None or mesh.shape.pp * mesh.shape.dp == 1:
        return [number]
    parts = transport.all_gather_start(torch.tensor([number], dtype=torch.int64, device=mesh.device), "world").wait()
    return [int(part) for part in parts]


def _digest(inputs: BatchInputs) -> int:
    """A hash of a batch's names, shapes and dtypes: the same number, never negative, in every process."""
    raw = hashlib.blake2b(repr(inputs.key).encode(), digest_size=7).digest()
    return int.from_bytes(raw, "big")
