"""One rank's communicator among ranks that share a process: what each says is put on a board that all read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce as fold
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import GraphError
from funpipe._typing import MeshShape
from funpipe.functional.communication import MESSAGES, WAIT
from funpipe.graphs.node import Node

_, _WAIT_SEND, _, _WAIT_RECV = MESSAGES
_COMBINE = {"sum": torch.add, "max": torch.maximum, "min": torch.minimum}


@dataclass(frozen=True)
class _Pending:
    """What a start gave: the tensor, and which collective of which group it belongs to."""

    tensor: Tensor
    group: tuple[str, int]
    number: int
    item: int


@dataclass
class Board:
    """What all ranks have said so far."""

    starts: dict[tuple[tuple[str, int], int], dict[int, tuple[str, str, list[Tensor]]]] = field(default_factory=dict)
    sent: dict[tuple[int, int], list[Tensor]] = field(default_factory=dict)
    posted: dict[tuple[int, int], int] = field(default_factory=dict)


class Simulated:
    """One rank's communicator among ranks in one process; `ready` says whether a node can run without waiting.

    Args:
        board: what all ranks have said.
        mesh: the number of pipeline ranks and of replicas.
        rank: this one, `dp_rank * mesh.pp + pp_rank`.
    """

    def __init__(self, board: Board, mesh: MeshShape, rank: int) -> None:
        self.board, self.mesh, self.rank = board, mesh, rank
        self.dp_rank, self.pp_rank = divmod(rank, mesh.pp)
        self.counts: dict[tuple[str, int], int] = {}
        self.pending: dict[int, _Pending] = {}
        self.received: dict[int, int] = {}

    def _members(self, axis: str) -> tuple[tuple[str, int], list[int]]:
        """The group on an axis, and its ranks."""
        pp, dp = self.mesh.pp, self.mesh.dp
        if axis == "dp":
            return (axis, self.pp_rank), [d * pp + self.pp_rank for d in range(dp)]
        if axis == "pp":
            return (axis, self.dp_rank), [self.dp_rank * pp + p for p in range(pp)]
        return (axis, 0), list(range(pp * dp))

    def _start(self, what: str, reduce: str, axis: str, tensors: list[Tensor], results: list[Tensor]) -> None:
        group, _ = self._members(axis)
        number = self.counts.get(group, 0)
        self.counts[group] = number + 1
        self.board.starts.setdefault((group, number), {})[self.rank] = (what, reduce, [t.clone() for t in tensors])
        for item, result in enumerate(results):
            self.pending[id(result)] = _Pending(result, group, number, item)

    def all_reduce(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        """Starts to combine the ranks' tensors."""
        return self.all_reduce_coalesced([x], reduce, axis)[0]

    def all_reduce_coalesced(self, xs: Sequence[Tensor], reduce: str, axis: str) -> list[Tensor]:
        """Starts to combine several tensors."""
        results = [torch.full_like(x, 0, memory_format=torch.contiguous_format) for x in xs]
        self._start("all_reduce", reduce, axis, list(xs), results)
        return results

    def all_gather(self, x: Tensor, axis: str) -> Tensor:
        """Starts to put the ranks' tensors one after the other."""
        size = len(self._members(axis)[1])
        result = x.new_zeros((size * x.shape[0], *x.shape[1:]))
        self._start("all_gather", "", axis, [x], [result])
        return result

    def reduce_scatter(self, x: Tensor, reduce: str, axis: str) -> Tensor:
        """Starts to combine the ranks' tensors, of which each rank gets its share."""
        size = len(self._members(axis)[1])
        result = x.new_zeros((x.shape[0] // size, *x.shape[1:]))
        self._start("reduce_scatter", reduce, axis, [x], [result])
        return result

    def ready(self, node: Node, values: Mapping[str, Any]) -> bool:
        """Whether a node can run without waiting for another rank."""
        if node.target is WAIT:
            pending = self.pending.get(id(values[node.reads[0]]))
            return pending is None or len(self._said(pending)) == len(self._members(pending.group[0])[1])
        if node.target is _WAIT_RECV:
            return bool(self.board.sent.get(self._message(node.args[0])))
        if node.target is _WAIT_SEND:
            return self.board.posted.get(self._message(node.args[1]), 0) > 0
        return True

    def _message(self, message: Any) -> tuple[int, int]:
        return (self.dp_rank, message)

    def _said(self, pending: _Pending) -> dict[int, tuple[str, str, list[Tensor]]]:
        return self.board.starts.get((pending.group, pending.number), {})

    def wait(self, x: Tensor) -> Tensor:
        """What a collective gives, when all ranks have started it."""
        pending = self.pending.pop(id(x), None)
        if pending is None:
            raise GraphError("a tensor that no collective started, or that was waited for before, is waited for again.")
        _, ranks = self._members(pending.group[0])
        said = [self._said(pending)[rank] for rank in ranks]
        what, reduce, _ = said[0]
        _require_alike(said, pending)
        tensors = [given[pending.item] for _, _, given in said]
        if what == "all_gather":
            return torch.cat(tensors)
        total = fold(_COMBINE[reduce], tensors).contiguous()
        return total.chunk(len(ranks))[ranks.index(self.rank)].clone() if what == "reduce_scatter" else total

    def send(self, x: Tensor, message: int) -> None:
        """Starts to send."""
        self.board.sent.setdefault(self._message(message), []).append(x.clone())

    def wait_send(self, x: Tensor, message: int) -> None:
        """Ends a send: its receive was posted."""
        self.board.posted[self._message(message)] -= 1

    def post_recv(self, message: int) -> None:
        """Starts to receive."""
        self.board.posted[self._message(message)] = self.board.posted.get(self._message(message), 0) + 1

    def wait_recv(self, message: int) -> Tensor:
        """What was sent."""
        return self.board.sent[self._message(message)].pop(0)


def _require_alike(said: Sequence[tuple[str, str, list[Tensor]]], pending: _Pending) -> None:
    """Raises unless all ranks started the same collective on tensors of the same shapes."""
    kinds = {(what, reduce, tuple((t.shape, t.dtype) for t in given)) for what, reduce, given in said}
    if len(kinds) > 1:
        first, second = sorted(map(str, kinds))[:2]
        raise GraphError(
            f"collective {pending.number} on {pending.group[0]!r} differs between ranks: {first} and {second}; start "
            "the same ones in the same order on all ranks of an axis."
        )
