"""One rank's error is every rank's: ranks meet after what may raise, and all raise if one did."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from funpipe.interop.pipelining.errors import PipeRuntimeError


class PeerFailed(PipeRuntimeError):
    """A message that says that its sender failed; never seen by the user, who gets the sender's own error."""


@contextmanager
def together(group: dist.ProcessGroup | None = None) -> Iterator[None]:
    """Raises on every rank what is raised in the block on one of them.

    Every rank of the group enters the same number of blocks; at the end of each the ranks meet. A rank that never comes
    is noticed by the process group's own timeout.

    Args:
        group: the ranks; None: all. Without a process group the block stands for itself.

    Returns:
        A context.

    Raises:
        PipeRuntimeError: another rank raised; the text is its error's. A rank that raised itself raises that.

    Example:
        >>> with together():
        ...     print("here")
        here
    """
    failed = None
    try:
        yield
    except Exception as error:
        failed = error
    try:
        origin = _first_origin(group, failed)
        if failed is not None and (origin is None or not isinstance(failed, PeerFailed)):
            raise failed
        if origin is not None:
            rank, text = origin
            raise PipeRuntimeError(f"rank {rank} failed in this step: {text}") from failed
    finally:
        failed = None  # Its traceback holds this frame, and tensors: no cycle may keep them.


def on_any_rank(here: bool, group: dist.ProcessGroup | None = None) -> bool:
    """Whether something holds on one of the ranks; every rank of the group asks.

    Args:
        here: whether it holds on this one.
        group: the ranks; None: all, or this one alone without a process group.

    Returns:
        The same on every rank.

    Example:
        >>> on_any_rank(True), on_any_rank(False)
        (True, False)
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size(group) == 1:
        return here
    anywhere = torch.tensor([here], dtype=torch.int32, device="cpu" if has_cpu(group) else "cuda")
    dist.all_reduce(anywhere, dist.ReduceOp.MAX, group=group)
    return bool(anywhere.item())


def has_cpu(group: dist.ProcessGroup | None) -> bool:
    """Whether a group's ranks can send each other tensors of the CPU."""
    return "cpu:" in dist.get_backend_config(group)


def _first_origin(group: dist.ProcessGroup | None, failed: Exception | None) -> tuple[int, str] | None:
    """The lowest rank that raised an error of its own, and its text."""
    if not on_any_rank(failed is not None, group) or not dist.is_initialized():
        return None
    texts: list[str | None] = [None] * dist.get_world_size(group)
    own = failed is not None and not isinstance(failed, PeerFailed)
    dist.all_gather_object(texts, f"{type(failed).__name__}: {failed}" if own else None, group=group)
    return next(((rank, text) for rank, text in enumerate(texts) if text is not None), None)
