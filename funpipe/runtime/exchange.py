"""Whole trees from what the ranks hold, and each rank's part of whole trees."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor

from funpipe._errors import StateError
from funpipe._typing import TensorType
from funpipe.functional.tree import check_same
from funpipe.programs.layout import Layout
from funpipe.programs.program import Programs
from funpipe.programs.slot_values import split_name
from funpipe.runtime.engine import Engine, require_state
from funpipe.runtime.key_of_state import saved_key
from funpipe.runtime.leaves_of_state import Named, buffers, fill, leaves, slots
from funpipe.runtime.scale_of_state import saved_scale, scale_of
from funpipe.runtime.state import State


def gather_params(engine: Engine, values: Named) -> Named:
    """All parameters by name, copies, on every rank."""
    model, lowered = engine.first()
    return gather_named(engine, leaves(lowered.all.layout, values), model.params)


def gather_named(engine: Engine, mine: Mapping[str, Tensor], types: Mapping[str, TensorType]) -> Named:
    """What the ranks that own some parameters have under their names, copies, on every rank.

    Args:
        engine: of a step that has a state.
        mine: what this rank has, by the parameter's name.
        types: of the wanted parameters.
    """
    programs = engine.first()[1].all
    return _gathered(engine, mine, {n: _home_of_leaf(programs, n) for n in types}, types)


def gather_gradients(engine: Engine, found: Named, only: Collection[str] | None = None) -> Named:
    """The gradients of all parameters, or of some, by name, zeros where there is none, on every rank."""
    model, lowered = engine.first()
    flat = {n.replace("grad.", "bucket.", 1): t for n, t in found.items() if n.startswith("grad.")}
    mine = leaves(lowered.all.layout, flat)
    trained = {s.leaf for b in lowered.all.layout.buckets for s in b.slots}
    homes = {n: _home_of_leaf(lowered.all, n) for n in model.params if n in trained}
    types = _reduced(engine, {n: k for n, k in model.params.items() if only is None or n in only})
    homes = {n: home for n, home in homes.items() if n in types}
    known = _gathered(engine, mine, homes, types)
    zeros = {n: torch.zeros(k.shape, dtype=k.dtype, device=model.device) for n, k in types.items() if n not in known}
    return known | zeros


def _reduced(engine: Engine, types: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """The types of gradients of parameters."""
    policy = engine.setup.precision
    floating = {n: k for n, k in types.items() if policy is not None and k.dtype.is_floating_point}
    return dict(types) | {n: replace(k, dtype=policy.reduced(k.dtype)) for n, k in floating.items() if policy}


def gather_buffers(engine: Engine, values: Named) -> Named:
    """All buffers by name, copies of replica 0's, on every rank."""
    model, lowered = engine.first()
    homes = {n: _home_of_buffer(lowered.all, n) for n in model.buffers}
    return _gathered(engine, buffers(values), homes, model.buffers, replicas=True)


def _gathered(
    engine: Engine,
    mine: Mapping[str, Tensor],
    homes: dict[str, int],
    types: Mapping[str, TensorType],
    replicas: bool = False,
) -> Named:
    mesh, transport, device = engine.setup.mesh, engine.transport, engine.first()[0].device
    found: Named = {}
    for name, home in homes.items():
        here = mesh is None or mesh.pp_rank == home
        kind = types[name]
        found[name] = mine[name].clone() if here else torch.empty(kind.shape, dtype=kind.dtype, device=device)
        if transport is not None and mesh is not None:
            if replicas and mesh.shape.dp > 1:
                transport.broadcast(found[name], 0, "dp")
            if mesh.shape.pp > 1:
                transport.broadcast(found[name], home, "pp")
    return found


def _home_of_leaf(programs: Programs, leaf: str) -> int:
    """The pipeline rank that a leaf is read from: its owner's, or the first with a copy."""
    home = programs.layout.home(leaf)
    name = f"bucket.{home[0].name}" if home else f"leaf.{leaf}"
    return next(p.rank for p in programs.programs if name in p.inputs)


def _home_of_buffer(programs: Programs, buffer: str) -> int:
    """The rank that updates a buffer (an input of its program, too), else the first that reads it, else the first."""
    name = f"buffer.{buffer}"
    writer = next((p.rank for p in programs.programs if name in p.outputs), None)
    reader = next((p.rank for p in programs.programs if name in p.inputs), 0)
    return reader if writer is None else writer


def state_dict(engine: Engine, state: State) -> dict[str, object]:
    """The leaves that this rank holds, by their original names."""
    lowered = engine.first()[1]
    require_state(state).require(lowered.signature)
    layout = lowered.all.layout
    scale = scale_of(state.values)
    kept: dict[str, object] = {
        "params": leaves(layout, state.values),
        "optimizer": slots(layout, state.values),
        "buffers": buffers(state.values),
        "step": state.step,
    }
    kept |= {"scale": scale} if scale else {}
    return kept | ({"key": state.values["key"]} if "key" in state.values else {})


def loaded(engine: Engine, state: State, saved: Mapping[str, object]) -> State:
    """A new state from saved leaves, in place of one that is given up; leaves of other ranks are left out."""
    model, lowered = engine.first()
    layout, template = lowered.all.layout, state.values
    if require_state(state).status == "consumed":
        state.require_usable()
    state.require_layout(lowered.signature)
    if not isinstance(saved, Mapping):
        raise StateError(f"the saved state is of type {type(saved).__name__}: pass what step.state_dict returned.")
    params = _part(saved, "params", leaves(layout, template))
    held = _part(saved, "buffers", buffers(template))
    parts = {path: _part(saved, f"optimizer.{path}", named) for path, named in slots(layout, template).items()}
    values: Named = {}
    for name in template:
        kind, _, rest = name.partition(".")
        if kind == "bucket":
            values[name] = fill(layout.bucket(rest), params, model.device)
        elif kind == "slot":
            values[name] = _slot(layout, name, parts, model.device)
        elif kind in ("leaf", "buffer"):
            values[name] = (params if kind == "leaf" else held)[rest].detach().to(model.device, copy=True).contiguous()
    values |= saved_scale(template, saved, model.device) | saved_key(template, saved, model.device)
    values["step"] = torch.tensor(_step_of(saved), dtype=torch.int64, device="cpu")
    return State(values, state.signature)


def _slot(layout: Layout, value: str, parts: Mapping[str, Named], device: torch.device) -> Tensor:
    """The value of a slot: flat, or the leaf's own where the update is of leaves."""
    name, bucket = split_name(value)
    path, _, leaf = name.partition(":")
    if layout.bucket(bucket).scope == "element":
        return fill(layout.bucket(bucket), parts[path], device)
    return parts[path][leaf].detach().to(device, copy=True).contiguous()


def _step_of(saved: Mapping[str, object]) -> int:
    step = saved.get("step")
    if not _is_count(step) or int(step) < 0:
        raise StateError(f"the saved state has step={step!r}: pass what step.state_dict returned.")
    return int(step)


def _is_count(value: object) -> TypeGuard[int | Tensor]:
    """Whether a value is one whole number, as an int or a tensor without dimensions."""
    if isinstance(value, Tensor):
        return value.ndim == 0 and value.dtype in _WHOLE
    return isinstance(value, int) and not isinstance(value, bool)


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _part(saved: Mapping[str, object], path: str, template: Named) -> Named:
    """The leaves that this rank needs of one part of a saved state, checked."""
    part: object = saved
    for key in path.split(".", 1):
        part = part.get(key, {}) if isinstance(part, Mapping) else {}
    if not isinstance(part, Mapping):
        raise StateError(f"the saved state has {path}={type(part).__name__}: pass what step.state_dict returned.")
    mine: dict[str, Any] = {n: t for n, t in part.items() if n in template}
    check_same({n: TensorType.of(t) for n, t in template.items()}, mine, what=f"the saved {path}")
    return mine
