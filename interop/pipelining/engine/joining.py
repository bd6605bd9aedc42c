"""Connects the ranks of a schedule, and tells every rank how the stages of all are wired."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from funpipe.interop.pipelining.engine.exchange import Ranks
from funpipe.interop.pipelining.engine.held import Held
from funpipe.interop.pipelining.engine.planning import Wiring
from funpipe.interop.pipelining.engine.shared import Shared, kinds, shared
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.wiring import Argument
from funpipe.runtime import Distributed, Mesh, mesh_of, transport_of
from funpipe.schedules import Table


class Numbered(Protocol):
    """A call that was looked at; its number differs where another program is needed."""

    @property
    def number(self) -> int: ...


S = TypeVar("S", bound=Numbered)

_FAILED = -1
_meshes: dict[tuple[Any, str], Mesh] = {}


@dataclass(frozen=True, eq=False)
class Joined:
    """This rank among all ranks of a schedule.

    Args:
        ranks: all of them.
        held: the modules of this rank's stages, and what they hold.
        wirings: those of all stages.
        shared: the parameters that stages on several ranks use.
        mesh, transport: between the ranks; None where there is one.
        device: where this rank's stages are.
    """

    ranks: Ranks
    held: Held
    wirings: Mapping[int, Wiring]
    shared: tuple[Shared, ...]
    mesh: Mesh | None
    transport: Distributed | None
    device: torch.device

    @property
    def later(self) -> tuple[Argument, ...]:
        """The arguments of the model that stages after the first take, each once."""
        others = (w for i, wiring in sorted(self.wirings.items()) if i for w in wiring or ())
        return tuple(dict.fromkeys(a for a in others if a.stage is None))

    def numbers(self, see: Callable[[], S]) -> tuple[tuple[int, ...], S]:
        """The number of every rank's call, and this rank's call; an error of one rank is raised on all.

        Args:
            see: looks at this rank's.
        """
        seen: S | None = None
        error: Exception | None = None
        try:
            seen = see()
        except Exception as raised:  # raised again by `gather`, when the other ranks know of it
            error = raised
        found = self._told(_FAILED if seen is None else seen.number)
        if seen is None or _FAILED in found:
            self.ranks.gather(lambda: _reraise(error))
        assert seen is not None
        return tuple(found), seen

    def _told(self, number: int) -> Sequence[int]:
        if self.transport is None:
            return [number]
        self.transport.tell_number(number)
        return self.transport.numbers_told()


def join(stages: Sequence[Any], table: Table, others: Sequence[Any] = ()) -> Joined:
    """Connects the ranks of a schedule; all of them call it.

    Args:
        stages: this rank's.
        table: of all ranks.
        others: further things whose attributes decide what is traced.

    Raises:
        PipeValueError: the stages of all ranks are not those of the table.
        PipeRuntimeError: another rank raised.
    """
    first = stages[0]
    ranks = Ranks(first.group, first.group_size, first.group_rank)
    modules = {s.stage_index: s.submod for s in stages}
    found = ranks.gather(lambda: _checked(stages, table, ranks))
    if len({digest for digest, _, _ in found}) > 1:
        raise PipeValueError("the ranks made different schedules: make the same one, with one n_microbatches, on all.")
    wirings = {i: wiring for _, of_rank, _ in found for i, wiring in of_rank.items()}
    several = shared(stages, table, {use: kind for _, _, of_rank in found for use, kind in of_rank.items()})
    device = _device(first, modules)
    connected = _mesh(first.group, device) if ranks.size > 1 else None
    transport = transport_of(connected) if connected is not None else None
    return Joined(ranks, Held(modules, stages, others), wirings, several, connected, transport, device)


def _checked(stages: Sequence[Any], table: Table, ranks: Ranks) -> tuple[str, dict[int, Wiring], Any]:
    mine = sorted(s.stage_index for s in stages)
    wanted = [i for i, rank in enumerate(table.placement) if rank == ranks.rank]
    if mine != wanted:
        raise PipeValueError(
            f"rank {ranks.rank} has the stages {mine}, and this schedule places {wanted} there: build those stages, "
            "or choose a schedule with another placement."
        )
    digest = hashlib.sha256(table.as_text().encode()).hexdigest()
    modules = {s.stage_index: s.submod for s in stages}
    return digest, {s.stage_index: getattr(s, "wiring", None) for s in stages}, kinds(stages, modules)


def _device(stage: Any, modules: Mapping[int, nn.Module]) -> torch.device:
    given = getattr(stage, "device", None)
    if given is not None:
        return torch.device(given)
    tensors = (t for m in modules.values() for t in (*m.parameters(), *m.buffers()))
    return next((t.device for t in tensors), torch.device("cpu"))


def _mesh(group: dist.ProcessGroup | None, device: torch.device) -> Mesh:
    """One for all schedules of the same processes."""
    group = group if group is not None else dist.group.WORLD
    assert group is not None
    key = (group, device.type)
    if key not in _meshes or _meshes[key].closed:
        _meshes[key] = mesh_of(group, device=device)
    return _meshes[key]


def _reraise(error: Exception | None) -> None:
    if error is not None:
        raise error
