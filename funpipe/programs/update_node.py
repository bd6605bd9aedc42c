"""The update of a bucket as one operator of a graph."""

import operator
from collections.abc import Sequence

from torch import Tensor

from funpipe._errors import ProgramError
from funpipe._typing import TensorType
from funpipe.graphs.node import Ref
from funpipe.optim import Optimizer
from funpipe.optim.members import member
from funpipe.optim.slots import slot_paths
from funpipe.optim.update_op import UPDATE
from funpipe.programs.graph_builder import GraphBuilder
from funpipe.programs.instructions import Update
from funpipe.programs.layout import Bucket
from funpipe.programs.local_graph import traced_graph
from funpipe.programs.program import Programs
from funpipe.programs.slot_values import of_leaves
from funpipe.programs.update import norm_of

NORM = "norm"
"""The global norm among a program's values: one for all buckets, which all read the same squares."""


def update_node(out: GraphBuilder, programs: Programs, instruction: Update, optimizer: Optimizer | None) -> None:
    """Writes an update: the flat bucket is its only leaf, unless the update is of leaves.

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
    bucket = programs.layout.bucket(name)
    own, label, _ = member(optimizer, bucket.label)
    texts = (_noted(out, str(own), own), _noted(out, repr(label), label))
    norm = Ref(_norm(out, programs)) if own.needs_norm else None
    is_flat = bucket.scope == "element"
    params, grads = ([flat] if is_flat else _cut(out, bucket, flat) for flat in (f"bucket.{name}", f"grad.{name}"))
    paths = [".".join(path) for path in slot_paths(own)] if is_flat else instruction.slots
    slots = [f"slot.{path}.{name}" for path in paths]
    lists = ([Ref(out.values[value]) for value in values] for values in (params, grads, slots))
    types = tuple(out.type_of(out.values[value]) for value in (*params, *slots))
    rest = (Ref(out.values["step"]), norm, None, *texts)
    made = out.call(UPDATE, (*lists, *rest), types, f"update_{name}", f"update {name}")
    _take_parts(out, made, (*params, *slots), types)
    if not is_flat:
        _join(out, bucket, params)


def _cut(out: GraphBuilder, bucket: Bucket, flat: str) -> list[str]:
    """The leaves of a flat value, as values of their own."""
    names = [f"{flat}:{slot.leaf}" for slot in bucket.slots]

    def leaves(given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: slot.view(given[flat]) for name, slot in zip(names, bucket.slots, strict=True)}

    piece = traced_graph(leaves, {flat: out.type_of(out.values[flat])})
    made = out.join(piece, [out.values[flat]], origin=f"leaves of {flat}")
    out.values.update(zip(names, made, strict=True))
    return names


def _join(out: GraphBuilder, bucket: Bucket, values: Sequence[str]) -> None:
    """The new leaves in one flat value again."""
    flat = f"bucket.{bucket.name}"

    def whole(given: dict[str, Tensor]) -> dict[str, Tensor]:
        leaves = [slot.leaf for slot in bucket.slots]
        return {flat: of_leaves(dict(zip(leaves, given.values(), strict=True)), bucket)}

    piece = traced_graph(whole, {value: out.type_of(out.values[value]) for value in values})
    (out.values[flat],) = out.join(piece, [out.values[v] for v in values], origin=f"update {bucket.name}")


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
