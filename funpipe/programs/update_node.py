"""The update of a bucket as one operator of a graph."""

import operator
from collections.abc import Sequence

from funpipe._errors import ProgramError
from funpipe._typing import TensorType
from funpipe.graphs.node import Ref
from funpipe.optim import Optimizer
from funpipe.optim.members import member
from funpipe.optim.slots import slot_paths
from funpipe.optim.update_op import UPDATE
from funpipe.programs.graph_builder import GraphBuilder
from funpipe.programs.instructions import Update
from funpipe.programs.local_graph import traced_graph
from funpipe.programs.program import Programs
from funpipe.programs.update import norm_of

NORM = "norm"
"""The global norm among a program's values: one for all buckets, which all read the same squares."""


def update_node(out: GraphBuilder, programs: Programs, instruction: Update, optimizer: Optimizer | None) -> None:
    """Writes an update: the flat bucket is its only leaf.

    Args:
        out: the graph; the bucket and its slots are the new ones afterwards.
        programs: all programs.
        instruction: the update.
        optimizer: what the programs were lowered with.

    Raises:
        ProgramError: there is no optimizer.
    """
    name = instruction.bucket
    if optimizer is None:
        raise ProgramError(f"the program updates {name}, but no optimizer was given: pass the one it was lowered with.")
    own, label, _ = member(optimizer, programs.layout.bucket(name).label)
    slots = [f"slot.{'.'.join(path)}.{name}" for path in slot_paths(own)]
    kept = [f"bucket.{name}", *slots]
    texts = (_noted(out, str(own), own), _noted(out, repr(label), label))
    norm = Ref(_norm(out, programs)) if own.needs_norm else None
    refs = {value: Ref(out.values[value]) for value in (*kept, f"grad.{name}", "step")}
    lists = ([refs[kept[0]]], [refs[f"grad.{name}"]], [refs[s] for s in slots])
    types = tuple(out.type_of(out.values[value]) for value in kept)
    made = out.call(UPDATE, (*lists, refs["step"], norm, None, *texts), types, f"update_{name}", f"update {name}")
    _take_parts(out, made, kept, types)


def _take_parts(out: GraphBuilder, made: str, kept: Sequence[str], types: Sequence[TensorType]) -> None:
    for i, (value, kind) in enumerate(zip(kept, types, strict=True)):
        out.values[value] = out.call(operator.getitem, (Ref(made), i), kind, "getitem", "")


def _noted(out: GraphBuilder, text: str, value: object) -> str:
    """The name of an object in the graph; another of the same text gets a number."""
    tried, number = text, 0
    while tried in out.objects and not (out.objects[tried] is value or out.objects[tried] == value):
        number += 1
        tried = f"{text}#{number}"
    out.objects[tried] = value
    return tried


def _norm(out: GraphBuilder, programs: Programs) -> str:
    squares = out.values["squares"]
    key, kind = f"{NORM} {squares}", out.type_of(squares)
    if key not in out.values:
        piece = traced_graph(lambda given: {NORM: norm_of(given["squares"], programs.leaf_order)}, {"squares": kind})
        (out.values[key],) = out.join(piece, [squares], origin=NORM)
    return out.values[key]
