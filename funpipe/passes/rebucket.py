"""Cuts the flat buckets of stages, so that replicas reduce a stage's gradients in several messages.

A stage's gradients are complete last layer first, and so come the parts: the first message can leave while the rest is
still computed, and `rotate` can defer some parts and not others.

    s0_float32 [ w0 w1 w2 w3 ]  ->  s0_float32_part0 [ w3 ]  s0_float32_part1 [ w1 w2 ]  s0_float32_part2 [ w0 ]

Leaves keep their names, and so do checkpoints; a state belongs to a layout.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from funpipe._errors import PassError
from funpipe.passes.base import Pass
from funpipe.programs import Program, Programs
from funpipe.programs.instructions import (
    AllReduce,
    Cast,
    Flatten,
    Free,
    Instruction,
    Overflow,
    Scale,
    Squares,
    Update,
)
from funpipe.programs.layout import ALIGNMENT, Bucket, Layout, Slot

Parts = dict[str, tuple[Bucket, ...]]
"""The parts of each bucket that is cut, by the bucket's name."""


def rebucket(first_bytes: int = 1 << 20, cap_bytes: int = 25 << 20) -> Pass:
    """Cuts each bucket that holds more than `cap_bytes`, unless its update reads all of it; bits do not change.

    Args:
        first_bytes: the most that the first part holds: the smaller it is, the earlier reducing begins.
        cap_bytes: the most that every other part holds. A leaf is never cut: a larger one is a part by itself.

    Returns:
        A pass over programs.

    Raises:
        PassError: a limit is no positive number.

    Example:
        >>> import torch, funpipe as fp
        >>> weights = {"a": torch.ones(3, 16), "b": torch.ones(16, 2)}
        >>> traced = fp.trace(lambda p, x: (x @ p["a"] @ p["b"]).sum(), weights, torch.ones(4, 3))
        >>> programs = fp.programs.lower(traced, fp.stages.partition(traced, ()), fp.schedules.GPipe().table(1, 2))
        >>> [(b.name, [s.leaf for s in b.slots]) for b in rebucket(128, 192)(programs).layout.buckets]
        [('s0_float32_part0', ['b']), ('s0_float32_part1', ['a'])]
    """
    for name, limit in (("first_bytes", first_bytes), ("cap_bytes", cap_bytes)):
        if limit < 1:
            raise PassError(f"rebucket: {name} is {limit}; pass a positive number of bytes, such as {name}=1 << 20.")
    return Pass("rebucket", partial(_rebucketed, first_bytes, cap_bytes), over=Programs)


def _rebucketed(first_bytes: int, cap_bytes: int, programs: Programs) -> Programs:
    found = {
        bucket.name: _parts(bucket, first_bytes, cap_bytes, programs.mesh.dp) for bucket in programs.layout.buckets
    }
    parts = {name: made for name, made in found.items() if len(made) > 1}
    if not parts:
        return programs
    edited = tuple(_edited(program, parts) for program in programs.programs)
    return replace(programs, programs=edited, layout=_layout(programs.layout, parts), types=_types(programs, parts))


def _parts(bucket: Bucket, first_bytes: int, cap_bytes: int, replicas: int) -> tuple[Bucket, ...]:
    """A bucket's parts, last leaves first; itself if it is within the limit, as a part is when it comes here again."""
    if bucket.scope == "tree" or sum(_nbytes(bucket, slot) for slot in bucket.slots) <= cap_bytes:
        return (bucket,)
    groups: list[list[Slot]] = []
    room = 0
    for slot in reversed(bucket.slots):
        if not groups or _nbytes(bucket, slot) > room:
            groups.append([])
            room = min(first_bytes, cap_bytes) if len(groups) == 1 else cap_bytes
        groups[-1].insert(0, slot)
        room -= _nbytes(bucket, slot)
    return tuple(_part(bucket, i, group, replicas) for i, group in enumerate(groups))


def _nbytes(bucket: Bucket, slot: Slot) -> int:
    return slot.numel * bucket.dtype.itemsize


def _part(bucket: Bucket, index: int, slots: list[Slot], replicas: int) -> Bucket:
    """The leaves of a part, aligned as in any bucket."""
    step = max(ALIGNMENT // bucket.dtype.itemsize, 1)
    moved, end = [], 0
    for slot in slots:
        moved.append(replace(slot, offset=end))
        end += -(-slot.numel // step) * step
    size = -(-end // (step * replicas)) * step * replicas
    return replace(bucket, name=f"{bucket.name}_part{index}", slots=tuple(moved), size=size)


def _layout(layout: Layout, parts: Parts) -> Layout:
    buckets = tuple(made for bucket in layout.buckets for made in parts.get(bucket.name, (bucket,)))
    return replace(layout, buckets=buckets)


def _types(programs: Programs, parts: Parts) -> dict[str, Any]:
    types = {}
    for name, kind in programs.types.items():
        for new, bucket in _named(name, parts):
            types[new] = kind if bucket is None else replace(bucket.type(kind.device), dtype=kind.dtype)
    return types


def _named(name: str, parts: Parts) -> Iterator[tuple[str, Bucket | None]]:
    """The names that take the place of a value's name: one for each part of what belongs to a bucket.

    With each the part, where the value becomes one of the part's layout.
    """
    prefix, _, bucket = name.rpartition(".")
    if prefix.split(".")[0] not in ("bucket", "grad", "slot", "cast") or bucket not in parts:
        yield name, None
    elif parts[bucket][0].scope == "element" or not prefix.startswith("slot."):
        yield from ((f"{prefix}.{part.name}", part) for part in parts[bucket])
    else:  # of one leaf, whose part takes it as it is
        leaf = prefix.partition(":")[2]
        part = next(part for part in parts[bucket] if any(slot.leaf == leaf for slot in part.slots))
        yield f"{prefix}.{part.name}", None


def _edited(program: Program, parts: Parts) -> Program:
    instructions = tuple(made for i in program.instructions for made in _instructions(i, parts))
    outputs = {}
    for name, value in program.outputs.items():
        outputs |= {new: new if bucket else value for new, bucket in _named(name, parts)}
    return replace(program, instructions=instructions, inputs=_all(program.inputs, parts), outputs=outputs)


def _all(names: tuple[str, ...], parts: Parts) -> tuple[str, ...]:
    return tuple(new for name in names for new, _ in _named(name, parts))


def _instructions(i: Instruction, parts: Parts) -> Iterator[Instruction]:
    """The instructions that take the place of one: of what is done to a bucket one for each part."""
    match i:
        case Flatten():
            yield from _flattens(i, parts)
        case Update():
            yield from _updates(i, parts)
        case Cast():
            pairs = zip(_all((i.value,), parts), _all((i.out,), parts), strict=True)
            yield from (Cast(value, out) for value, out in pairs)
        case Overflow():
            yield Overflow(tuple(name for bucket in i.buckets for name in _names(bucket, parts)))
        case Squares():
            names = tuple(name for bucket in i.buckets for name in _names(bucket, parts))
            yield replace(i, buckets=names, state=_all(i.state, parts))
        case AllReduce() | Scale():
            yield from (replace(i, value=name) for name, _ in _named(i.value, parts))
        case Free():
            yield replace(i, values=_all(i.values, parts))
        case _:
            yield i


def _names(bucket: str, parts: Parts) -> tuple[str, ...]:
    return tuple(part.name for part in parts[bucket]) if bucket in parts else (bucket,)


def _updates(i: Update, parts: Parts) -> Iterator[Update]:
    """Each part is updated with the slots of its leaves."""
    for part in parts.get(i.bucket, ()):
        own = {"", *(slot.leaf for slot in part.slots)}  # a slot of the whole bucket names no leaf
        yield replace(i, bucket=part.name, slots=tuple(name for name in i.slots if name.partition(":")[2] in own))
    if i.bucket not in parts:
        yield i


def _flattens(i: Flatten, parts: Parts) -> Iterator[Flatten]:
    """Each part takes the places of its leaves: the parts hold a bucket's leaves from the last to the first."""
    end = len(i.places)
    for part in parts.get(i.bucket, ()):
        begin = end - len(part.slots)
        yield Flatten(part.name, i.places[begin:end])
        end = begin
    if i.bucket not in parts:
        yield i
