"""Starts of several messages at once, and the wait for them, as code that moves its own tensors uses them."""

from collections.abc import Iterable
from typing import Any

import torch.distributed as dist


def _batch_p2p(p2p_ops: list[dist.P2POp], desc: str | None = None) -> list[Any]:
    """Starts messages; those that all go one way are started one by one, so that none waits for another.

    Args:
        p2p_ops: the messages.
        desc: what they are; for whoever reads the call.

    Returns:
        What `_wait_batch_p2p` waits for.

    Example:
        >>> _wait_batch_p2p(_batch_p2p([]))
    """
    if not p2p_ops:
        return []
    if len({op.op for op in p2p_ops}) > 1:
        return list(dist.batch_isend_irecv(p2p_ops))
    started = (op.op(op.tensor, op.peer, op.group, op.tag) for op in p2p_ops)
    return [work for work in started if work is not None]


def _sorted_batch_p2p(p2p_ops: list[dist.P2POp], desc: str | None = None) -> dict[int, list[Any]]:
    """Starts messages peer by peer, in the order of the peers: so both ends of each pair of ranks do the same.

    Args:
        p2p_ops: the messages.
        desc: what they are; for whoever reads the call.

    Returns:
        For each peer what `_wait_batch_p2p` waits for.

    Example:
        >>> _sorted_batch_p2p([])
        {}
    """
    peers = sorted({op.peer for op in p2p_ops})
    return {peer: _batch_p2p([op for op in p2p_ops if op.peer == peer], desc) for peer in peers}


def _wait_batch_p2p(work: Iterable[Any]) -> None:
    """Waits for messages.

    Args:
        work: what `_batch_p2p` returned.

    Example:
        >>> _wait_batch_p2p([])
    """
    for one in work:
        one.wait()
