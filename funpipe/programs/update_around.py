"""What stands around the update of a bucket in a graph: the gradient's dtype before, a skipped step behind."""

from collections.abc import Mapping
from typing import Any

from funpipe._typing import TensorType
from funpipe.programs.graph_builder import GraphBuilder
from funpipe.programs.instructions import Update
from funpipe.programs.local_graph import traced_graph
from funpipe.programs.skipping import unless


def cast_gradient(out: GraphBuilder, instruction: Update) -> dict[str, str]:
    """Gives a bucket's gradient the dtype of its parameters.

    Args:
        out: the graph; the gradient is the cast one afterwards.
        instruction: the update.

    Returns:
        What the update will overwrite: the values of parameters and slots in the graph, by their names in the program.
    """
    name = instruction.bucket
    grad, bucket = out.values[f"grad.{name}"], out.values[f"bucket.{name}"]
    kind, wanted = out.type_of(grad), out.type_of(bucket)
    if isinstance(kind, TensorType) and isinstance(wanted, TensorType) and kind.dtype != wanted.dtype:
        dtype = wanted.dtype
        piece = traced_graph(lambda given: {"grad": given["grad"].to(dtype)}, {"grad": kind})
        (out.values[f"grad.{name}"],) = out.join(piece, [grad], origin=f"update {name}")
    return {n: out.values[n] for n in (f"bucket.{name}", *(f"slot.{slot}.{name}" for slot in instruction.slots))}


def keep_old(out: GraphBuilder, instruction: Update, old: Mapping[str, str]) -> None:
    """Keeps what was there before the update, where one of its flags is set.

    Args:
        out: the graph; parameters and slots are the chosen ones afterwards.
        instruction: the update.
        old: what `cast_gradient` returned.
    """
    for flag in instruction.unless:
        for value, before in old.items():
            now = (out.values[flag], before, out.values[value])
            kinds: dict[str, Any] = dict(zip(("flag", "old", "new"), map(out.type_of, now), strict=True))
            piece = traced_graph(lambda given: {"kept": unless([given["flag"]], given["old"], given["new"])}, kinds)
            (out.values[value],) = out.join(piece, now, origin=f"update {instruction.bucket}")
