"""What a stage's forward saves for its backward, and what it could save in its place."""

from torch import Tensor, fx

from funpipe.stages.choices import Values
from funpipe.stages.costs import Costs
from funpipe.stages.sources import Sources, owner_of
from funpipe.stages.stage import Region, Stage
from funpipe.tracing.operators import is_random, mutates

TICKS = 10**15
"""Costs are counted in femtoseconds, as integers."""


def saved_bytes(stage: Stage) -> int:
    """The bytes of the values of one microbatch that a stage holds from its forward to its backward.

    These are what the forward makes or receives and the backward reads. What is there anyway does not count:
    parameters, batch leaves, constants, buffers that the stage does not update, and results, which wait for the end of
    the step; neither does what a backward receives.

    Args:
        stage: a stage, rematerialised or not.

    Returns:
        The bytes; a rank holds as many for each microbatch in flight.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> stages = fp.stages.partition(traced, ())
        >>> fp.stages.saved_bytes(stages[0]), fp.stages.saved_bytes(*fp.stages.rematerialise(stages, "full"))
        (80, 0)
    """
    read = () if stage.B is None else stage.B.inputs
    held = _held(stage)
    return sum(stage.F.types[n].nbytes for n in read if n in held)


def bytes_for_weights(stage: Stage) -> int:
    """The bytes of the values of one microbatch that a split stage holds from its I to its W.

    These are what W reads of what the forward saved, of what I received and of what I leaves it. As in `saved_bytes`,
    what is there anyway does not count.

    Args:
        stage: a stage whose backward is split.

    Returns:
        The bytes; 0 if it has no W.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> first, last = fp.stages.split_backward(fp.stages.partition(traced, (2,)))
        >>> fp.stages.bytes_for_weights(last), last.W.inputs
        (80, ('tanh', 'tanh_backward_of_I1'))
    """
    if stage.W is None:
        return 0
    of_i = {n for n in (*stage.I.inputs, *stage.I.outputs) if not _is_there(stage, n)} if stage.I else set()
    return sum(stage.W.types[n].nbytes for n in stage.W.inputs if n in (_held(stage) | of_i) - _waiting(stage))


def _held(stage: Stage) -> set[str]:
    """What a forward makes or receives for this one microbatch, but for results."""
    return {n for n in stage.F.inputs if not _is_there(stage, n)} | ({*stage.F.outputs} - _waiting(stage))


def returned(region: Region) -> dict[str, fx.Node]:
    """The node of each output of a region."""
    (nodes,) = region.module.graph.find_nodes(op="output")[0].args
    return dict(zip(region.outputs, nodes, strict=True))


def nodes_of(stage: Stage) -> tuple[fx.Node, ...]:
    """The inputs and operations of a stage's forward, in order."""
    return tuple(n for n in stage.F.module.graph.nodes if n.op != "output")


def values_of(stage: Stage, costs: Costs) -> Values:
    """The choice that a stage has, over the nodes of its forward.

    Views and tensors made from numbers alone are never saved; what is there anyway costs nothing; what is received,
    and what an operator made that writes to its arguments or draws random numbers, cannot be computed again.

    Args:
        stage: a stage with a backward.
        costs: the time of a node.
    """
    nodes, sources = nodes_of(stage), Sources(stage.F.module.graph)
    position = {node: i for i, node in enumerate(nodes)}
    name = dict(zip(nodes, stage.F.inputs, strict=False))
    there = {node for node, n in name.items() if _is_there(stage, n)}
    values = {n: node for node, n in name.items() if node not in there} | returned(stage.F)
    waiting = {values[n] for n in _waiting(stage)}
    read = dict.fromkeys(values[n] for n in stage.B.inputs if n in values) if stage.B else {}
    return Values(
        reads=tuple(tuple(position[r] for r in n.all_input_nodes) for n in nodes),
        nbytes=tuple(None if n in there or sources.floats(n) else 0 if n in waiting else _nbytes(n) for n in nodes),
        cost=tuple(_cost(n, costs) if n in there or n not in name else None for n in nodes),
        wanted=tuple(position[n] for n in read),
    )


def _is_there(stage: Stage, name: str) -> bool:
    """Whether an input is kept for the whole step in any case: a leaf, but no buffer that is updated here."""
    return "." in name and name not in stage.results


def _waiting(stage: Stage) -> set[str]:
    """The values that are kept until the end of the step, where those of all microbatches are combined."""
    return {value for name, value in stage.results.items() if not name.startswith("buffer.")}


def _nbytes(node: fx.Node) -> int | None:
    value = node.meta["val"]
    return value.numel() * value.dtype.itemsize if isinstance(value, Tensor) else None


def _cost(node: fx.Node, costs: Costs) -> int | None:
    owner = owner_of(node)
    if owner.op == "call_function" and (mutates(owner) or is_random(owner)):
        return None
    return round(costs.node(node) * TICKS)
