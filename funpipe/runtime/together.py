"""What all ranks do alike: an error of one is raised on all before anything is sent, and never after.

Before a step, one number goes round: a hash of the batch's shapes, or that this rank cannot go on. A step that raises
after its first message may leave messages under way, so its transport is not used again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from funpipe._errors import BatchError, FunpipeError
from funpipe.runtime.agreement import first_difference, gather_texts
from funpipe.runtime.inputs import BatchInputs, Seen, digest_of
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.transports import Distributed

_FAILED = -1
_transports: list[Distributed] = []


def transport_of(mesh: Mesh) -> Distributed:
    """The transport of a mesh: one for all its steps, so that an interrupted step is known to all of them.

    Args:
        mesh: the processes.

    Returns:
        The transport; made at the first call, which all processes of the mesh make together.

    Example:
        >>> from funpipe.runtime.mesh import mesh
        >>> alone = mesh(pp=1, device="cpu")
        >>> transport_of(alone) is transport_of(alone)
        True
        >>> alone.close()
    """
    _transports[:] = [t for t in _transports if not t.mesh.closed]
    known = next((t for t in _transports if t.mesh is mesh), None)
    if known is None:
        known = Distributed(mesh)
        _transports.append(known)
    return known


@contextmanager
def telling(transport: Distributed | None) -> Iterator[None]:
    """While open, an error on this rank is told to the others, which wait in `require_same_batches`.

    Args:
        transport: to them; None where there are none.
    """
    try:
        yield
    except FunpipeError:
        _numbers(_FAILED, transport)
        raise


def require_same_batches(inputs: BatchInputs, transport: Distributed | None, seen: Sequence[Seen] = ()) -> None:
    """Raises on every rank unless all of them got a batch, and of the same shapes.

    Args:
        inputs: this rank's batch.
        transport: to the others; None where there are none.
        seen: the values that were read out of it in Python; all ranks have to agree on them.

    Raises:
        BatchError: a rank cannot go on, has other shapes, or reads other values; it is named.
    """
    odd = _odd_rank(_digest_with(inputs, seen), transport)
    if odd is not None and transport is not None:
        other = _odd_rank(inputs.digest, transport)
        if other is None:
            raise BatchError(_values_text(seen, transport, odd))
        odd = other
    if odd is not None:
        raise BatchError(
            f"batch: global rank {odd} got a batch of other shapes than rank 0 in the same step: pass every rank a "
            "batch of the same sizes, for instance by dropping or padding (fp.microbatch.pad) the last one."
        )


def require_same_key(key: Tensor | None, transport: Distributed | None) -> None:
    """Raises on every rank unless all of them have the same key: what they draw would depend on who draws it.

    Args:
        key: of this rank's step, or None.
        transport: to the others; None where there are none.

    Raises:
        BatchError: the key of a rank is another one.
    """
    odd = _odd_rank(0 if key is None else digest_of(("key", int(key))), transport) if transport else None
    if odd is not None:
        raise BatchError(
            f"key: global rank {odd} got another key than rank 0: pass every rank the same, as in key=0. Replicas draw "
            "other numbers from one key, for a microbatch is counted over the global batch."
        )


def _digest_with(inputs: BatchInputs, seen: Sequence[Seen]) -> int:
    return digest_of((inputs.digest, *((s.text, s.value) for s in seen))) if seen else inputs.digest


def _values_text(seen: Sequence[Seen], transport: Distributed, odd: int) -> str:
    """Every rank's values are gathered as text, so that each rank can name the first that differs."""
    texts = gather_texts("\n".join(f"{s.value} at {s.source}" for s in seen), transport, transport.mesh)
    return (
        f"batch: the loss function reads a tensor's value in Python, and the ranks disagree on it: global rank {odd} "
        f"differs from rank 0 in {first_difference(texts[0], texts[odd])}. All ranks run one graph: use torch.where or "
        "a mask in the loss function, or pass every rank batches that agree on the value."
    )


def require_same_call(number: int, name: str, transport: Distributed | None) -> None:
    """Raises on every rank unless all of them are about to run the same graph.

    Args:
        number: of the graph, at least 0.
        name: of the function that was called, for the error.
        transport: to the other ranks; None where there are none.

    Raises:
        BatchError: a rank cannot go on, or calls something else; it is named.
    """
    odd = _odd_rank(number, transport)
    if odd is not None:
        raise BatchError(
            f"this rank calls {name!r}, and global rank {odd} calls something else than rank 0 in the same step: call "
            "the same function of the same compiled step on every rank."
        )


def _odd_rank(number: int, transport: Distributed | None) -> int | None:
    """The first rank whose number is not that of rank 0; None where all are the same.

    Raises:
        BatchError: a rank cannot go on; it is named.
    """
    found = _numbers(number, transport)
    if _FAILED in found:
        raise BatchError(
            f"global rank {found.index(_FAILED)} cannot run this step, so no rank does: its own error says why. "
            "Correct what it was given there."
        )
    return next((rank for rank, other in enumerate(found) if other != found[0]), None)


def _numbers(number: int, transport: Distributed | None) -> list[int]:
    """One number of every rank, in the order of the ranks."""
    if transport is None or transport.alone:
        return [number]
    try:
        transport.tell_number(number)
        return transport.numbers_told()
    except BaseException as error:
        transport.give_up(error)
        raise


@contextmanager
def breaking(transport: Distributed | None) -> Iterator[None]:
    """While open, an error makes the transport refuse everything after it, as `give_up` does.

    Args:
        transport: to the others; None where there are none.

    Returns:
        What is entered.

    Example:
        >>> with breaking(None):
        ...     pass
    """
    try:
        yield
    except BaseException as error:
        give_up(transport, error)
        raise


def give_up(transport: Distributed | None, error: BaseException) -> None:
    """Makes the transport refuse everything after an error in a step: new messages would pair with older ones."""
    if transport is not None:
        transport.give_up(error)
