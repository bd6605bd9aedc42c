"""Several leaves one after the other in one flat tensor, and such a tensor cut into leaves again."""

import operator
from collections.abc import Sequence
from dataclasses import replace

import torch

from funpipe._typing import TensorType
from funpipe.graphs import Node, Ref
from funpipe.passes.communication.concatenated import lies_in_rows
from funpipe.passes.optimizer.inline import Inliner
from funpipe.tracing.fake import contiguous

aten = torch.ops.aten


def flattened(inliner: Inliner, leaves: Sequence[str], like: Node) -> tuple[list[Node], str]:
    """The nodes that make one flat tensor of several, and its name.

    Args:
        inliner: that writes them.
        leaves: the tensors, by name, of one dtype and device.
        like: a node whose module path and line they get.
    """
    nodes, rows = [], []
    for name in leaves:
        kind = inliner.type_of(name)
        if not lies_in_rows(kind):
            copy = {"memory_format": torch.contiguous_format}
            nodes.append(inliner.call("clone", aten.clone.default, (Ref(name),), contiguous(kind), like, **copy))
            name = nodes[-1].name
        nodes.append(inliner.call("row", aten.view.default, (Ref(name), [-1]), _flat(kind, kind.numel), like))
        rows.append(nodes[-1])
    whole = _flat(rows[0].type, sum(row.type.numel for row in rows))
    nodes.append(inliner.call("flat", aten.cat.default, ([Ref(row.name) for row in rows],), whole, like))
    return nodes, nodes[-1].name


def cut(inliner: Inliner, flat: str, kinds: Sequence[TensorType], like: Node) -> tuple[list[Node], list[str]]:
    """The nodes that cut a flat tensor into leaves, and the names of these.

    Args:
        inliner: that writes them.
        flat: the tensor, by name.
        kinds: of the leaves.
        like: a node whose module path and line they get.
    """
    sizes = [kind.numel for kind in kinds]
    types = tuple(_flat(inliner.type_of(flat), size) for size in sizes)
    parts = inliner.call("parts", aten.split_with_sizes.default, (Ref(flat), sizes), types, like)
    nodes, leaves = [parts], []
    for i, (part, kind) in enumerate(zip(types, kinds, strict=True)):
        taken = inliner.call("part", operator.getitem, (Ref(parts.name), i), part, like)
        shaped = contiguous(replace(part, shape=kind.shape))
        leaves.append(inliner.call("leaf", aten.view.default, (Ref(taken.name), list(kind.shape)), shaped, like))
        nodes += [taken, leaves[-1]]
    return nodes, [leaf.name for leaf in leaves]


def _flat(kind: TensorType, size: int) -> TensorType:
    return replace(kind, shape=(size,), stride=(1,))
