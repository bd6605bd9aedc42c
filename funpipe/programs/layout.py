"""Where the leaves of the state live: in flat buckets, or loose."""

from collections.abc import Callable, Hashable, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from funpipe._typing import TensorType
from funpipe.optim.base import Scope
from funpipe.stages.stage import Stage

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register."""


@dataclass(frozen=True)
class Slot:
    """A leaf's place in a bucket: its first element and its shape."""

    leaf: str
    offset: int
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def view(self, flat: Tensor) -> Tensor:
        """The leaf as a view of its bucket."""
        return flat.narrow(0, self.offset, self.numel).view(self.shape)


@dataclass(frozen=True)
class Bucket:
    """A flat buffer of the trained leaves of one stage with one dtype and one label.

    Args:
        name: such as `s0_float32`; unique among all stages.
        stage: the stage that owns the leaves.
        dtype: of all leaves.
        label: the label that the optimizer gives to all leaves.
        slots: the leaves, each aligned to 64 bytes.
        size: elements, padded to a multiple of the number of replicas.
        scope: what the update of one element reads: with `"leaf"` and `"tree"` it is of leaves, each with slots of its
            own, which are values `slot.PATH:LEAF.BUCKET`.
    """

    name: str
    stage: int
    dtype: torch.dtype
    label: Hashable
    slots: tuple[Slot, ...]
    size: int
    scope: Scope = "element"

    def type(self, device: str) -> TensorType:
        """The type of the flat buffer."""
        return TensorType((self.size,), (1,), self.dtype, device)


def cast_name(dtype: torch.dtype, bucket: str) -> str:
    """The value that holds a bucket in another dtype.

    Example:
        >>> cast_name(torch.bfloat16, "s0_float32")
        'cast.bfloat16.s0_float32'
    """
    return f"cast.{str(dtype).removeprefix('torch.')}.{bucket}"


@dataclass(frozen=True)
class Layout:
    """All buckets of a model, and the leaves outside them with the stages that hold each.

    Args:
        buckets: of all stages, in order.
        loose: frozen leaves, leaves without a gradient, and the copies of tied leaves, with the stages that read them.
        loose_params: whether all leaves are outside, and the buckets hold their gradients alone.
        casts: the leaves that regions read in another dtype than they are kept in, and that dtype.
    """

    buckets: tuple[Bucket, ...]
    loose: dict[str, tuple[int, ...]]
    loose_params: bool = False
    casts: dict[str, torch.dtype] = field(default_factory=dict)

    def of_stage(self, stage: int) -> tuple[Bucket, ...]:
        """The buckets of one stage."""
        return tuple(b for b in self.buckets if b.stage == stage)

    def held_by(self, stage: int) -> tuple[Bucket, ...]:
        """The buckets of one stage that hold its parameters."""
        return () if self.loose_params else self.of_stage(stage)

    def loose_on(self, stages: Set[int]) -> tuple[str, ...]:
        """The leaves that the rank of some stages has outside its buckets: no copy of one whose bucket is there."""
        found = {s.leaf: None for b in self.buckets for s in b.slots if self.loose_params and b.stage in stages}
        found |= {n: None for n, holders in self.loose.items() if stages & set(holders) and not self._at(n, stages)}
        return tuple(found)

    def _at(self, leaf: str, stages: Set[int]) -> bool:
        home = self.home(leaf)
        return home is not None and home[0].stage in stages

    def bucket(self, name: str) -> Bucket:
        """A bucket by name."""
        return next(b for b in self.buckets if b.name == name)

    def home(self, leaf: str) -> tuple[Bucket, Slot] | None:
        """The bucket and slot of a leaf; None if it is loose everywhere."""
        return self._homes.get(leaf)

    def base(self, name: str) -> tuple[str, Slot] | None:
        """The flat value that `param.LEAF`, which regions read, or `master.LEAF`, as it is kept, is a view of.

        Args:
            name: of the value.

        Returns:
            The value's name, and the leaf's place in it; None if the leaf is loose everywhere.
        """
        kind, _, leaf = name.partition(".")
        home = self.home(leaf)
        if home is None:
            return None
        cast = self.casts.get(leaf) if kind == "param" else None
        return (f"bucket.{home[0].name}" if cast is None else cast_name(cast, home[0].name)), home[1]

    @cached_property
    def _homes(self) -> dict[str, tuple[Bucket, Slot]]:
        """The bucket and slot of each leaf that is in one."""
        return {s.leaf: (b, s) for b in self.buckets for s in b.slots}


def layout(
    stages: Sequence[Stage],
    params: dict[str, TensorType],
    label: Callable[[str], Hashable] = lambda name: None,
    replicas: int = 1,
    scope: Callable[[Hashable], Scope] = lambda label: "element",
) -> Layout:
    """Lays the parameters of all stages out.

    Args:
        stages: the stages; each owns the trained leaves that it uses first.
        params: the type of every parameter, in tree order.
        label: the optimizer's label of a leaf.
        replicas: buckets are padded to a multiple of it.
        scope: of the update of a label.
    """
    buckets: list[Bucket] = []
    for stage in stages:
        groups: dict[tuple[torch.dtype, Hashable], list[str]] = {}
        for leaf in stage.owned:
            groups.setdefault((params[leaf].dtype, label(leaf)), []).append(leaf)
        names = _names(stage.index, list(groups))
        buckets += [
            replace(_bucket(n, stage.index, key, leaves, params, replicas), scope=scope(key[1]))
            for n, (key, leaves) in zip(names, groups.items(), strict=True)
        ]
    return Layout(tuple(buckets), _loose(stages, params))


def _names(stage: int, keys: list[tuple[torch.dtype, Hashable]]) -> list[str]:
    """`s0_float32`, with a number behind it where labels share a dtype."""
    names = [f"s{stage}_{str(dtype).removeprefix('torch.')}" for dtype, _ in keys]
    return [f"{n}_{names[:i].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _bucket(
    name: str,
    stage: int,
    key: tuple[torch.dtype, Hashable],
    leaves: list[str],
    params: dict[str, TensorType],
    replicas: int,
) -> Bucket:
    step = max(ALIGNMENT // key[0].itemsize, 1)
    slots, end = [], 0
    for leaf in leaves:
        slots.append(Slot(leaf, end, params[leaf].shape))
        end += -(-params[leaf].numel // step) * step
    return Bucket(name, stage, *key, tuple(slots), -(-end // (step * replicas)) * step * replicas)


def _loose(stages: Sequence[Stage], params: dict[str, TensorType]) -> dict[str, tuple[int, ...]]:
    """Each leaf with the stages that hold it outside a bucket; a leaf that no stage reads is on the first."""
    holders: dict[str, list[int]] = {leaf: [] for leaf in params}
    for stage in stages:
        own = set(stage.owned)
        for leaf in stage.params:
            if leaf not in own:
                holders[leaf].append(stage.index)
    owned = {leaf for stage in stages for leaf in stage.owned}
    return {leaf: tuple(found) or (0,) for leaf, found in holders.items() if found or leaf not in owned}
