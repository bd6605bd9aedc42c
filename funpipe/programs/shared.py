"""What the programs of all ranks share while they are written: messages, types, and who reads what."""

from dataclasses import dataclass, field, replace

import numpy as np

from funpipe._errors import ProgramError
from funpipe._typing import TensorType
from funpipe.programs.layout import Layout, layout
from funpipe.programs.message import Message
from funpipe.programs.source import Source
from funpipe.programs.types import value_types
from funpipe.schedules import Table
from funpipe.schedules.codes import IDLE, pair_of
from funpipe.schedules.task import KINDS
from funpipe.stages.stage import Region, Stage


@dataclass
class Shared:
    """Shared by all ranks. A message gets its id when either end is first written."""

    source: Source
    messages: dict[tuple[str, int], Message] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    reducers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source = self.source
        self.layout: Layout = source.layout or _layout(source)
        count = source.table.num_microbatches
        self.types = value_types(source.outline, source.stages, self.layout, count, source.batch_dims)
        self.makers = source.makers
        trains = any(len(s.regions) > 1 for s in source.stages)  # of frozen parameters only gradients of inputs
        self.kinds = _kinds(source.table) if trains else [{"F"}] * len(source.stages)
        self.differentiates = any(kinds != {"F"} for kinds in self.kinds)
        self.readers: dict[str, dict[int, None]] = {}
        for stage in source.stages:
            for value in (v for r in self.regions_of(stage) for v in r.inputs if v in self.makers):
                self.readers.setdefault(value, {}).setdefault(self.placement(stage.index))

    def regions_of(self, stage: Stage) -> tuple[Region, ...]:
        """The regions of a stage that the programs run: those of the kinds that the table has for it."""
        return tuple(r for r in stage.regions if r.kind in self.kinds[stage.index])

    def placement(self, stage: int) -> int:
        """The rank of a stage."""
        return self.source.table.placement[stage]

    def message(self, value: str, src: int, dst: int, label: str, made_by: str = "", needed_by: str = "") -> int:
        """The id of the one message that brings a value to a rank; each end adds its own task."""
        key = (value, dst)
        if key not in self.messages:
            self.messages[key] = Message(len(self.messages), src, dst, self.types[value], f"{label} value {value}")
        known = self.messages[key]
        tasks = {"made_by": known.made_by or made_by, "needed_by": known.needed_by or needed_by}
        self.messages[key] = replace(known, **tasks)
        return known.id


def _layout(source: Source) -> Layout:
    made = layout(source.stages, source.outline.masters, source.label, source.mesh.dp, source.scope)
    _require_one_bucket(made)
    return replace(made, loose_params=source.form.loose_params, casts=source.outline.casts)


def _require_one_bucket(made: Layout) -> None:
    """Raises where an update reads all leaves, and they are not in one bucket."""
    whole = next((b for b in made.buckets if b.scope == "tree"), None)
    if whole is not None and len(made.buckets) > 1:
        raise ProgramError(
            f"the optimizer reads all leaves of the model in one update, and they are in {len(made.buckets)} buckets, "
            f"{', '.join(b.name for b in made.buckets[:3])}: use stages=1 and leaves of one dtype, or write it as "
            "transforms in a chain, such as fp.optim.clip_by_global_norm in front of fp.optim.adamw."
        )


def _kinds(table: Table) -> list[set[str]]:
    """For each stage the kinds of its tasks: F, and B or I and W or, mixed, all; F alone in an evaluation."""
    codes = table.cells[table.cells != IDLE]
    of_stage = pair_of(codes) // table.num_microbatches
    found = np.zeros((table.num_stages, len(KINDS)), bool)
    found[of_stage, codes & 3] = True
    trains = bool(found[:, 1:].any())
    return [_whole({kind for kind, has in zip(KINDS, row, strict=True) if has}, trains) for row in found]


def _whole(kinds: set[str], trains: bool) -> set[str]:
    """What a stage needs if it has tasks of these kinds, so that the verifier finds what the table lacks."""
    split = {"I", "W"} if kinds & {"I", "W"} else set()
    return {"F"} | split | ({"B"} if "B" in kinds or (trains and not split) else set())
