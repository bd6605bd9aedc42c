"""`Metrics`: a step's results, combined over the replicas and known on every rank, waited for when they are read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import ProgramError
from funpipe._typing import TensorType
from funpipe.programs.execute import reduced
from funpipe.programs.program import Programs


@dataclass(frozen=True)
class Results:
    """Which rank makes each result of the programs, its type, and how it is combined over the replicas."""

    owners: dict[str, int]
    types: dict[str, TensorType]
    reducers: dict[str, str]

    @staticmethod
    def of(programs: Programs) -> "Results":
        """Reads them off the programs."""
        owners = {n: p.rank for p in programs.programs for n in p.outputs if n in programs.reducers}
        owners = dict(sorted(owners.items()))
        return Results(owners, {n: programs.types[f"result.{n}"] for n in owners}, programs.reducers)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """As the user reads them."""
        return tuple(n.removeprefix("aux.") for n in self.owners if n != "weight")

    @cached_property
    def makers(self) -> tuple[int, ...]:
        """The pipeline ranks that make any of them."""
        return tuple(sorted(set(self.owners.values())))

    @cached_property
    def blank(self) -> Tensor:
        """The bytes of a rank that makes none of them."""
        return torch.zeros(sum(kind.nbytes for kind in self.types.values()), dtype=torch.uint8)

    def blank_on(self, device: torch.device) -> Tensor:
        """The same on a device: made there, because copying it would wait for what the device still has to do."""
        return self.blank if device == self.blank.device else torch.zeros_like(self.blank, device=device)


class Metrics(Mapping[str, Tensor]):
    """Results by name: `"loss"`, and the auxiliary values. Reading one waits for the step that makes it.

    Args:
        results: who makes what.
        local: this rank's own, by name.
        gathering: the bytes of all ranks on their way, or None where one process makes everything.
        pp: ranks along the pipeline.
    """

    def __init__(self, results: Results, local: dict[str, Tensor], gathering: Any = None, pp: int = 1) -> None:
        self._results, self._local, self._gathering, self._pp = results, local, gathering, pp
        self._names = results.names
        self._known: dict[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(f"there is no metric {name!r}; there are {', '.join(map(repr, self._names))}.")
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Metrics({', '.join(self._names)})"

    def _read(self) -> dict[str, Tensor]:
        if self._known is None:
            rows = [self._local] if self._gathering is None else self._unpacked(self._gathering.wait())
            self._known = _named(_combined(self._results, rows))
            self._gathering = None
        return self._known

    def _unpacked(self, parts: list[Tensor]) -> list[dict[str, Tensor]]:
        """For each replica its results, each from the rank that makes it."""
        rows = []
        for first in range(0, len(parts), self._pp):
            unpacked = [unpack(self._results, p) for p in parts[first : first + self._pp]]
            rows.append({n: unpacked[rank][n] for n, rank in self._results.owners.items()})
        return rows


def pack(results: Results, local: dict[str, Tensor], device: torch.device) -> Tensor:
    """One rank's results as bytes, zeros for those of other ranks: the same length on every rank.

    Raises:
        ProgramError: a result is not of its type, so that other ranks would read other bytes.
    """
    if not local:
        return results.blank_on(device)
    parts = [_part(n, k, local.get(n), device).reshape(-1).view(torch.uint8) for n, k in results.types.items()]
    return parts[0] if len(parts) == 1 else torch.cat([p.to(device) for p in parts])


def _part(name: str, kind: TensorType, value: Tensor | None, device: torch.device) -> Tensor:
    """A result, checked, or zeros in the place of another rank's."""
    if value is None:
        return torch.zeros(kind.shape, dtype=kind.dtype, device=device)
    if (tuple(value.shape), value.dtype) != (kind.shape, kind.dtype):
        raise ProgramError(
            f"the result {name!r} is {TensorType.of(value)}, but the programs type it {kind}, as the other ranks read "
            "it: give step.init a batch of the shapes and dtypes that the step gets, and keep torch's default dtype."
        )
    return value.detach()


def unpack(results: Results, flat: Tensor) -> dict[str, Tensor]:
    """The inverse of `pack`."""
    found, start = {}, 0
    for name, kind in results.types.items():
        part = flat[start : start + kind.nbytes].clone()
        found[name] = part.view(kind.dtype).reshape(kind.shape)
        start += kind.nbytes
    return found


def _combined(results: Results, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    found = {n: reduced(results.reducers[n], [row[n] for row in rows]) for n in results.owners}
    if "weight" in found:
        loss = found["loss"]
        found["loss"] = (loss / found.pop("weight")).to(loss.dtype)
    return found


def _named(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix("aux."): v for n, v in found.items()}
