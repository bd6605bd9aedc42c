"""The optimizer's slots of the whole model, on every rank."""

import torch
from torch import Tensor

from funpipe.programs.slot_values import by_leaf, split_name
from funpipe.runtime.engine import Engine
from funpipe.runtime.leaves_of_state import Named


def gather_slots(engine: Engine, values: Named) -> dict[str, Named]:
    """For each slot's path its leaves by name, copies, on every rank; every rank calls it alike.

    Args:
        engine: of a train step that has a state.
        values: this rank's.
    """
    programs = engine.first()[1].all
    found: dict[str, Named] = {}
    for value in (n for n in programs.types if n.startswith("slot.")):
        name, bucket = split_name(value)
        home = next(p.rank for p in programs.programs if value in p.inputs)
        for path, leaf, slot in by_leaf(programs.layout.bucket(bucket), name, _whole(engine, values, value, home)):
            found.setdefault(path, {})[leaf] = slot
    return found


def _whole(engine: Engine, values: Named, value: str, home: int) -> Tensor:
    """A copy of a value that one pipeline rank has."""
    mesh, transport = engine.setup.mesh, engine.transport
    kind = engine.first()[1].all.types[value]
    here = mesh is None or mesh.pp_rank == home
    device = engine.first()[0].device
    tensor = values[value].clone() if here else torch.empty(kind.shape, dtype=kind.dtype, device=device)
    if transport is not None and mesh is not None and mesh.shape.pp > 1:
        transport.broadcast(tensor, home, "pp")
    return tensor
