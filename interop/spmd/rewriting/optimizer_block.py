"""A fused update of an optimizer, with the addition that counts its steps, and what takes their results apart."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import fx

from funpipe.interop.spmd.errors import SpmdRuntimeError, SpmdValueError
from funpipe.interop.spmd.rewriting.nested import nodes_in
from funpipe.passes.optimizer.calls import FUSED


class AdamArgs(NamedTuple):
    """The positional arguments of a fused Adam: lists of nodes, one node for each parameter.

    Args:
        params: the parameters.
        grads: their gradients.
        exp_avgs: the first slots.
        exp_avg_sqs: the second slots.
        max_exp_avg_sqs: the third slots; none without amsgrad.
        state_steps: the counts of steps.
    """

    params: Sequence[fx.Node]
    grads: Sequence[fx.Node]
    exp_avgs: Sequence[fx.Node]
    exp_avg_sqs: Sequence[fx.Node]
    max_exp_avg_sqs: Sequence[fx.Node]
    state_steps: Sequence[fx.Node]


_FAR = 5
"""An addition more calls above its update counts something else."""


@dataclass
class FusedAdamBlock:
    """A fused update.

    Args:
        optim_node: the call.
        generate_output: whether nodes that take its results apart are to be made; else those that are there are found.
        param_outputs: the new parameters, in the order of the arguments; None where nothing reads one.
        grad_outputs: likewise the gradients that it gives back.
        exp_avgs_outputs: likewise the first slots (the momentum of an SGD).
        exp_avg_sqs_outputs: likewise the second slots.
        max_exp_avg_sqs: likewise the third slots.
    """

    optim_node: fx.Node
    generate_output: bool = False
    param_outputs: list[fx.Node | None] = field(default_factory=list)
    grad_outputs: list[fx.Node | None] = field(default_factory=list)
    exp_avgs_outputs: list[fx.Node | None] = field(default_factory=list)
    exp_avg_sqs_outputs: list[fx.Node | None] = field(default_factory=list)
    max_exp_avg_sqs: list[fx.Node | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        lists = (self.param_outputs, self.grad_outputs, self.exp_avgs_outputs, self.exp_avg_sqs_outputs)
        for index, found in enumerate((*lists, self.max_exp_avg_sqs)):
            given = self.optim_node.args[index] if index < len(self.optim_node.args) else None
            if isinstance(given, list | tuple) and not found:
                found += self._outputs(index, len(given))

    def _outputs(self, index: int, count: int) -> list[fx.Node | None]:
        whole = _item(self.optim_node, index)
        if whole is None and self.generate_output:
            whole = _made(self.optim_node, index)
        if whole is None:
            return [None] * count
        return _items(whole, count, self.generate_output)


@dataclass
class ForeachAddBlock:
    """The addition that counts steps.

    Args:
        add_node: the call.
        generate_output: whether nodes that take its results apart are to be made; else those that are there are found.
        outputs: the new counts, in the order of the arguments; None where nothing reads one.
    """

    add_node: fx.Node
    generate_output: bool = False
    outputs: list[fx.Node | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        counts: Any = self.add_node.args[0]
        self.outputs = self.outputs or _items(self.add_node, len(counts), self.generate_output)


@dataclass
class FusedOptimizerBlock:
    """A fused update and what counts its steps; None for an update that counts none."""

    step: ForeachAddBlock | None
    optim: FusedAdamBlock


def _items(node: fx.Node, count: int, make: bool) -> list[fx.Node | None]:
    found = [_item(node, i) for i in range(count)]
    return [_made(node, i) if item is None and make else item for i, item in enumerate(found)]


def _item(node: fx.Node, index: int) -> fx.Node | None:
    """What takes an item out of a list of results; where that is copied into a tensor, the copy."""
    taken = next((u for u in node.users if u.target is operator.getitem and u.args[1] == index), None)
    copies = [u for u in taken.users if str(u.target).startswith("aten.copy_")] if taken else []
    return copies[0] if copies else taken


def _made(node: fx.Node, index: int) -> fx.Node:
    with node.graph.inserting_after(node):
        made = node.graph.call_function(operator.getitem, (node, index))
    value = node.meta.get("val")
    made.meta["val"] = value[index] if isinstance(value, list | tuple) else None
    return made


def get_fused_optimizer_block(optim_node: fx.Node) -> FusedOptimizerBlock:
    """The block of a fused update.

    Args:
        optim_node: `_fused_adam`, `_fused_adamw` or `_fused_sgd`.

    Raises:
        SpmdRuntimeError: no `_foreach_add` counts its steps, and it is no update that counts none.
    """
    counts = _counts(optim_node)
    if counts is None and is_fused(optim_node):
        return FusedOptimizerBlock(None, FusedAdamBlock(optim_node))
    level = list(nodes_in(counts))
    for _ in range(_FAR):
        for node in level:
            if str(node.target).startswith("aten._foreach_add"):
                return FusedOptimizerBlock(ForeachAddBlock(node), FusedAdamBlock(optim_node))
        level = [above for node in level for above in node.all_input_nodes]
    raise SpmdRuntimeError(
        f"Cannot find step node (foreach_add) for the optimizer node {optim_node} with {_FAR} BFS distance. The API "
        "design does not match the tracing graph. Count steps with torch._foreach_add, as torch's fused optimizers do."
    )


def _counts(optim_node: fx.Node) -> Any:
    """The counts of steps that an update takes."""
    schema = getattr(optim_node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else list(AdamArgs._fields)
    given = dict(zip(names, optim_node.args, strict=False)) | dict(optim_node.kwargs)
    return given.get("state_steps")


def get_all_fused_optimizer_blocks(gm: Any, optim_ops: tuple[str, ...] | str) -> list[FusedOptimizerBlock]:
    """The blocks of all fused updates of some names.

    Args:
        gm: the graph module.
        optim_ops: how the names of the nodes begin, such as `"_fused_adam"`.
    """
    return [get_fused_optimizer_block(n) for n in gm.graph.nodes if n.name.startswith(optim_ops) and is_fused(n)]


def is_fused(node: fx.Node) -> bool:
    """Whether a node is a fused update."""
    return getattr(node.target, "overloadpacket", None) in FUSED


def gradients_of(optim_node: fx.Node) -> list[fx.Node]:
    """The gradients that a fused update takes.

    Raises:
        SpmdValueError: the node is no fused update.
    """
    if not is_fused(optim_node):
        raise SpmdValueError(f"{optim_node.name!r} is no fused update; pass a node that calls one of {_fused_names()}.")
    return list(nodes_in(optim_node.args[1]))


def _fused_names() -> str:
    return ", ".join(sorted(packet.__name__ for packet in FUSED))
